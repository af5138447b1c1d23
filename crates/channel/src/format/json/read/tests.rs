use std::{collections::BTreeMap, fmt::Debug};

use proptest::prelude::*;
use serde::{Deserialize, Deserializer, Serialize, de::DeserializeOwned};
use serde_json::Value;

use super::{GaveUp, Reader, read, unsigned};
use crate::{Request, Response};

#[derive(Debug, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
enum Kind {
    Unit,
    New(i64),
    Pair(u8, String),
    Named { deep: Box<Option<Kind>>, number: f32 },
}

#[derive(Debug, PartialEq, Deserialize)]
struct Whole {
    kind: Option<Kind>,
    kinds: Option<Vec<Kind>>,
    numbers: Option<BTreeMap<String, u64>>,
    by_number: Option<BTreeMap<u32, i8>>,
    letter: Option<char>,
    big: Option<i128>,
    pair: Option<(bool, f64)>,
    #[serde(default)]
    lenient: Lenient,
    rest: Option<Loose>,
}

#[derive(Debug, PartialEq, Deserialize)]
#[serde(untagged)]
enum Loose {
    Number(u16),
    Text(String),
    Any(Value),
}

/// Takes whatever is wrong with it for nothing, even if that was found half-way.
#[derive(Debug, Default, PartialEq)]
struct Lenient(Option<Vec<u16>>);

impl<'de> Deserialize<'de> for Lenient {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        Ok(Self(Vec::deserialize(deserializer).ok()))
    }
}

/// What is read here is what `serde_json` reads; whether it was read here.
fn agree<T: DeserializeOwned + Debug + PartialEq>(text: &str) -> bool {
    let ours = read::<T>(text);
    if let Some(ours) = &ours {
        assert_eq!(ours, &serde_json::from_str::<T>(text).expect(text), "{text}");
    }
    ours.is_some()
}

fn agree_on_all(text: &str) {
    agree::<Value>(text);
    agree::<Response>(text);
    agree::<Response<u8>>(text);
    agree::<Request>(text);
    agree::<Request<Kind>>(text);
    agree::<Kind>(text);
    agree::<Whole>(text);
    agree::<Vec<Option<Loose>>>(text);
    agree::<BTreeMap<String, f64>>(text);
    agree::<String>(text);
    agree::<i8>(text);
    agree::<f64>(text);
    agree::<(u64, Option<bool>, ())>(text);
}

/// Names and texts of the types above, and what is at the edge of JSON.
fn word() -> impl Strategy<Value = String> {
    let words = [
        "kind",
        "kinds",
        "numbers",
        "by_number",
        "letter",
        "big",
        "pair",
        "lenient",
        "rest",
        "id",
        "version",
        "status",
        "message",
        "content",
        "refused",
        "command",
        "timeout_ms",
        "unit",
        "new",
        "named",
        "deep",
        "number",
        "OK",
        "PROCESSING",
        "denied",
        "1",
        "x",
        "",
        "$serde_json::private::RawValue",
        "$serde_json::private::Number",
    ];
    prop_oneof![
        4 => proptest::sample::select(words.to_vec()).prop_map(|word| format!("{word:?}")),
        1 => "\"([a-z é\u{1f600}\"\\\\/\u{1}\u{7f}]|\\\\n|\\\\u[0-9a-f]{4}){0,40}\"",
        1 => "\"[ -!#-\\[\\]-~]{0,200}\"",
    ]
}

fn scalar() -> impl Strategy<Value = String> {
    prop_oneof![
        3 => word(),
        2 => "-?(0|[1-9][0-9]{0,20})",
        1 => "-?[0-9]{1,3}(\\.[0-9]{0,3})?([eE][+-]?[0-9]{0,3})?",
        2 => proptest::sample::select(vec!["null", "true", "false", "nul", "tru", "NaN", "0", "256"])
            .prop_map(String::from),
    ]
}

fn json() -> impl Strategy<Value = String> {
    let space = || proptest::sample::select(vec!["", "", "", " ", "\n", "\t\r ", "\u{b}", ","]);
    scalar().prop_recursive(4, 40, 6, move |inner| {
        let array = (proptest::collection::vec(inner.clone(), 0..4), space())
            .prop_map(|(all, space)| format!("[{}{space}]", all.join(",")));
        let entry = (word(), space(), inner).prop_map(|(k, space, v)| format!("{k}{space}:{v}"));
        let object = (proptest::collection::vec(entry, 0..6), space())
            .prop_map(|(all, space)| format!("{space}{{{}}}", all.join(&format!("{space},"))));
        prop_oneof![1 => array, 3 => object]
    })
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(5_000))]

    #[test]
    fn nothing_is_read_otherwise_than_serde_json_reads_it(text in json()) {
        agree_on_all(&text);
    }

    #[test]
    fn nothing_is_taken_that_serde_json_refuses(
        text in json(),
        at in any::<prop::sample::Index>(),
        byte in prop_oneof!["[ -~]", "[{}\\[\\],:\"\\\\0]", Just(String::new())],
    ) {
        let mut text: Vec<char> = text.chars().collect();
        let at = at.index(text.len() + 1);
        text.splice(at..(at + 1).min(text.len()), byte.chars());
        agree_on_all(&text.into_iter().collect::<String>());
    }

    #[test]
    fn a_text_of_any_length_ends_where_it_ends(
        length in 0..200_usize,
        special in proptest::option::of((0..200_usize, 0..128_u8)),
    ) {
        let mut text = "x".repeat(length);
        if let Some((at, byte)) = special.filter(|(at, _)| *at < length) {
            text.replace_range(at..=at, char::from(byte).encode_utf8(&mut [0]));
        }
        let is_plain = !text.contains(['"', '\\']) && !text.contains(|c| c < ' ');
        prop_assert_eq!(agree::<String>(&format!("\"{text}\"")), is_plain);
        agree::<Value>(&format!("[\"{text}\",12]"));
    }
}

#[test]
fn messages_as_they_mostly_are_are_read_here() {
    assert!(agree::<Request>(r#"{"id":"My-urgent-request","version":0}"#));
    assert!(agree::<Request<Kind>>(r#"{"id":"a","version":0,"command":{"pair":[1,"b"]}}"#));
    assert!(agree::<Response>(
        r#"{"id":"a","version":0,"status":"OK","message":"","content":{"lines":12,"of":[null]}}"#
    ));
}

#[test]
fn what_is_common_is_read_here_whatever_it_is_in() {
    let siblings = format!("[{}[]]", "[],".repeat(200));
    let all = [
        "\"a\"",
        "null",
        "true",
        "false",
        "[]",
        "{}",
        "[true,\"a\",{\"b\":[0,-1,2.5]}]",
        &siblings,
    ];
    for text in all {
        assert!(agree::<Value>(text), "{text}");
    }
    assert!(agree::<bool>("true") && agree::<bool>(" false\n"));
    assert!(agree::<Vec<u8>>("[ 1,\t22, 255 ]") && agree::<Vec<i64>>("[-1, 0]"));
}

#[test]
fn a_number_without_a_sign_is_read_here() {
    let largest = u64::MAX.to_string();
    for number in ["0", "7", "10", "9007199254740993", "1000000000000000000", &largest] {
        assert_eq!(unsigned(number), number.parse().ok(), "{number}");
    }
    for number in ["", "00", "01", "+1", "-1", "1.5", "1e3", "1-", "18446744073709551616", "e", "-"]
    {
        assert_eq!(unsigned(number), None, "{number}");
    }
    let digit = |text| {
        let mut reader = Reader { text, at: 0, depth: 1 };
        let digit = reader.digit();
        (digit, reader.at)
    };
    for (text, found) in [("7,", (Some(7), 1)), (" 0}", (Some(0), 2)), ("9,8", (Some(9), 1))] {
        assert_eq!(digit(text), found, "{text}");
    }
    for text in ["", "7", "77,", "7 ,", "x,", "-,", ",", "7]"] {
        assert_eq!(digit(text).0, None, "{text}");
    }
}

#[test]
fn what_is_given_up_is_given_up_for_good() {
    let text = "\"a\\n\"1";
    let mut reader = Reader { text, at: 0, depth: 1 };
    assert!(reader.string().is_err());
    assert!(reader.string().is_err() && reader.number().is_empty() && reader.peek().is_none());
    assert_ne!(reader.at, text.len());
    assert_eq!(read::<Lenient>(text), None);
    assert_eq!(GaveUp.to_string(), "not read here");
}

#[test]
fn what_is_too_deep_is_left_alone() {
    let nested = |levels| format!("{}{}", "[".repeat(levels), "]".repeat(levels));
    assert!(read::<Value>(&nested(100)).is_some());
    assert!(read::<Value>(&nested(101)).is_none());
    assert!(read::<Value>(&"[".repeat(1_000_000)).is_none());
}
