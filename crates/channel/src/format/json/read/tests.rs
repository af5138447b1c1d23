use std::{
    collections::BTreeMap,
    fmt::{self, Debug},
    marker::PhantomData,
};

use proptest::prelude::*;
use serde::{
    Deserialize, Deserializer, Serialize,
    de::{DeserializeOwned, MapAccess, Visitor},
};
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

/// A map of one entry, or of none.
#[derive(Debug, PartialEq)]
struct One<K>(Option<(K, u8)>);

impl<'de, K: Deserialize<'de>> Deserialize<'de> for One<K> {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        struct Entry<K>(PhantomData<K>);
        impl<'de, K: Deserialize<'de>> Visitor<'de> for Entry<K> {
            type Value = One<K>;

            fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str("a map")
            }

            fn visit_map<A: MapAccess<'de>>(self, mut map: A) -> Result<One<K>, A::Error> {
                map.next_entry().map(One)
            }
        }
        deserializer.deserialize_map(Entry(PhantomData))
    }
}

#[derive(Debug, PartialEq, Deserialize)]
struct Unit;
#[derive(Debug, PartialEq, Deserialize)]
struct Newtype<T>(T);
#[derive(Debug, PartialEq, Deserialize)]
struct Tuple(u8, String);

/// Bytes, asked for as such: whether to be kept.
#[derive(Debug, PartialEq)]
struct Bytes<const KEPT: bool>(Vec<u8>);

impl<'de, const KEPT: bool> Deserialize<'de> for Bytes<KEPT> {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        struct Any;
        impl Visitor<'_> for Any {
            type Value = Vec<u8>;

            fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str("bytes")
            }

            fn visit_bytes<E>(self, bytes: &[u8]) -> Result<Vec<u8>, E> {
                Ok(bytes.to_vec())
            }
        }
        let read = if KEPT {
            deserializer.deserialize_byte_buf(Any)
        } else {
            deserializer.deserialize_bytes(Any)
        };
        read.map(Self)
    }
}

#[test]
fn each_kind_of_data_is_read_as_serde_json_reads_it_or_left_to_it() {
    assert!(agree::<Unit>("null") && agree::<Option<Unit>>("null"));
    assert!(agree::<Newtype<u8>>("7") && agree::<Newtype<Newtype<String>>>("\"a\""));
    assert!(agree::<Tuple>("[7,\"a\"]"));
    assert!(!agree::<Bytes<false>>("\"a\"") && !agree::<Bytes<true>>("\"a\""));
    for text in ["null", "7", "\"a\"", "[7]", "[7,\"a\",1]", "[7,1]", "{}", "{\"unit\":null}"] {
        agree::<Unit>(text);
        agree::<Newtype<u8>>(text);
        agree::<Tuple>(text);
    }
}

#[test]
fn a_key_of_any_kind_is_read_as_serde_json_reads_it_or_left_to_it() {
    assert!(agree::<One<String>>(r#"{"a":1}"#) && agree::<One<String>>("{}"));
    assert!(agree::<One<Newtype<String>>>(r#"{"a":1}"#));
    for key in ["a", "7", "-7", "1.5", "true", "null", "", "unit", "new", "Unit", "[7,\\\"a\\\"]"] {
        let text = format!("{{\"{key}\":1}}");
        agree::<One<Newtype<u8>>>(&text);
        agree::<One<bool>>(&text);
        agree::<One<char>>(&text);
        agree::<One<f64>>(&text);
        agree::<One<i128>>(&text);
        agree::<One<Option<String>>>(&text);
        agree::<One<()>>(&text);
        agree::<One<Unit>>(&text);
        agree::<One<(u8, String)>>(&text);
        agree::<One<Tuple>>(&text);
        agree::<One<Vec<u8>>>(&text);
        agree::<One<Kind>>(&text);
        agree::<One<Whole>>(&text);
        agree::<One<One<u8>>>(&text);
        agree::<One<Bytes<false>>>(&text);
        agree::<One<Bytes<true>>>(&text);
        agree::<One<Value>>(&text);
    }
}
