//! That the reader reads what `serde_json` reads, and accepts nothing that it refuses.

use std::{
    collections::{BTreeMap, HashMap},
    fmt::{self, Debug},
    marker::PhantomData,
};

use proptest::prelude::*;
use serde::{
    Deserialize, Deserializer, Serialize,
    de::{DeserializeOwned, MapAccess, Visitor},
};
use serde_json::Value;

use super::{NotRead, Reader, read, read_common, unsigned};

#[derive(Debug, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
enum Kind {
    Unit,
    New(i64),
    Pair(u8, String),
    Named { deep: Box<Option<Kind>>, number: f32 },
}

/// Has the fields of a request and of a response.
#[derive(Debug, PartialEq, Deserialize)]
struct Envelope<T> {
    id: String,
    version: u8,
    #[serde(default)]
    message: String,
    content: Option<T>,
    timeout_ms: Option<u64>,
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
    lenient: Lenient<Vec<u16>>,
    #[serde(default)]
    lenient_map: Lenient<BTreeMap<String, Option<i8>>>,
    rest: Option<Loose>,
}

#[derive(Debug, PartialEq, Deserialize)]
#[serde(untagged)]
enum Loose {
    Number(u16),
    Text(String),
    Any(Value),
}

/// Is `None` for a value with an error, even if the error is in the middle of the value.
#[derive(Debug, Default, PartialEq)]
struct Lenient<T>(Option<T>);

impl<'de, T: Deserialize<'de>> Deserialize<'de> for Lenient<T> {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        Ok(Self(T::deserialize(deserializer).ok()))
    }
}

/// Checks that the reader and `serde_json` read the same. Returns whether the reader read it.
fn agree<T: DeserializeOwned + Debug + PartialEq>(text: &str) -> bool {
    let ours = read_common::<T>(text);
    if let Some(ours) = &ours {
        assert_eq!(ours, &serde_json::from_slice::<T>(text.as_bytes()).expect(text), "{text}");
    }
    ours.is_some()
}

fn agree_on_all(text: &str) {
    agree::<Value>(text);
    agree::<Envelope<Value>>(text);
    agree::<Envelope<u8>>(text);
    agree::<Envelope<Kind>>(text);
    agree::<Kind>(text);
    agree::<Whole>(text);
    agree::<Vec<Option<Loose>>>(text);
    agree::<BTreeMap<String, f64>>(text);
    agree::<BTreeMap<String, Lenient<Envelope<u8>>>>(text);
    agree::<BTreeMap<String, Lenient<BTreeMap<String, u8>>>>(text);
    agree::<Vec<Lenient<Vec<Lenient<Kind>>>>>(text);
    agree::<Lenient<Kind>>(text);
    agree::<String>(text);
    agree::<i8>(text);
    agree::<f64>(text);
    agree::<(u64, Option<bool>, ())>(text);
}

/// Names and strings of the types above, and unusual strings.
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
        "lenient_map",
        "rest",
        "id",
        "version",
        "message",
        "content",
        "timeout_ms",
        "unit",
        "new",
        "named",
        "deep",
        "number",
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
        1 => "\"([ -!#-\\[\\]-~]|\\\\[nrt\"\\\\/bf]){0,100}\"",
    ]
}

fn scalar() -> impl Strategy<Value = String> {
    let words = vec!["null", "true", "false", "nul", "tru", "NaN", "0", "256"];
    prop_oneof![
        3 => word(),
        2 => "-?(0|[1-9][0-9]{0,20})",
        1 => "-?[0-9]{1,3}(\\.[0-9]{0,3})?([eE][+-]?[0-9]{0,3})?",
        2 => proptest::sample::select(words).prop_map(String::from),
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

fn config() -> ProptestConfig {
    ProptestConfig { cases: 2_000, failure_persistence: None, ..ProptestConfig::default() }
}

proptest! {
    #![proptest_config(config())]

    #[test]
    fn it_reads_what_serde_json_reads(text in json()) {
        agree_on_all(&text);
    }

    #[test]
    fn it_accepts_nothing_that_serde_json_refuses(
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
    fn a_string_of_any_length_ends_at_its_quote(
        length in 0..1_500_usize,
        special in proptest::option::of((0..1_500_usize, 0..128_u8)),
    ) {
        let mut text = "x".repeat(length);
        if let Some((at, byte)) = special.filter(|(at, _)| *at < length) {
            text.replace_range(at..=at, char::from(byte).encode_utf8(&mut [0]));
        }
        let is_plain = !text.contains(['"', '\\']) && !text.contains(|c| c < ' ');
        prop_assert_eq!(agree::<String>(&format!("\"{text}\"")), is_plain);
        agree::<Value>(&format!("[\"{text}\",12]"));
    }

    #[test]
    fn a_string_with_escapes_is_read_here(text in "[a-zé\n\"\\\\\u{1f600}]{0,100}") {
        let json = serde_json::to_string(&[&text, &text]).unwrap();
        prop_assert_eq!(read_common::<Vec<String>>(&json), Some(vec![text.clone(), text]));
    }
}

#[test]
fn common_messages_are_read_here() {
    assert!(agree::<Envelope<Value>>(r#"{"id":"My-urgent-request","version":0}"#));
    assert!(agree::<Envelope<Kind>>(r#"{"id":"a","version":0,"content":{"pair":[1,"b"]}}"#));
    assert!(agree::<Envelope<Value>>(
        r#"{"id":"a","version":0,"status":"OK","message":"a\n","content":{"lines":12,"of":[null]}}"#
    ));
}

#[test]
fn common_values_are_read_here_at_any_place() {
    let siblings = format!("[{}[]]", "[],".repeat(200));
    let all = [
        "\"a\"",
        "\"a\\\"\\u00e9\"",
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
        let mut reader = Reader::new(text);
        let digit = reader.digit();
        (digit, reader.expect(b',').is_ok())
    };
    assert_eq!(digit("7,"), (Some(7), true));
    assert_eq!(digit("9,8"), (Some(9), true));
    assert_eq!(digit(" 0}"), (Some(0), false));
    for text in ["", "7", "77,", "7 ,", "x,", "-,", ",", "7]"] {
        assert_eq!(digit(text).0, None, "{text}");
    }
}

#[test]
fn a_reader_that_gave_up_reads_nothing_more() {
    let mut reader = Reader::new("\"a\"1");
    assert!(reader.give_up::<()>().is_err());
    assert!(reader.plain_string().is_err() && reader.escaped_string().is_err());
    assert!(reader.number().is_empty() && reader.peek().is_none() && !reader.has_ended());
    assert_eq!(read_common::<Lenient<u8>>("\"a\\q\""), None);
    assert_eq!(NotRead.to_string(), "not read");
}

#[test]
fn what_is_too_deep_is_left_to_serde_json() {
    let nested = |levels| format!("{}{}", "[".repeat(levels), "]".repeat(levels));
    assert!(read_common::<Value>(&nested(100)).is_some());
    assert!(read_common::<Value>(&nested(101)).is_none());
    assert!(read::<Value>(&nested(127)).is_ok() && read::<Value>(&nested(128)).is_err());
    assert!(read::<Value>(&"[".repeat(1_000_000)).is_err());
}

#[test]
fn a_key_that_is_not_ascii_is_refused_in_a_map_with_bool_keys() {
    assert!(read::<HashMap<bool, u8>>("{\"é\":1}").is_err());
}

#[test]
fn an_unclosed_object_is_refused_where_a_field_ignores_its_error() {
    type Ignored = HashMap<String, Lenient<HashMap<String, u8>>>;
    type WithoutField = HashMap<String, Lenient<Envelope<u8>>>;
    assert!(read::<Ignored>(r#"{"b":{"a":300}"#).is_err());
    assert!(read::<WithoutField>(r#"{"b":{"id":"a"}"#).is_err());
    assert!(read::<WithoutField>(r#"{"b":{"id":"a"}}"#).is_ok());
    assert!(read::<HashMap<String, Lenient<u8>>>(r#"{"b":300}"#).is_ok());
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

/// Asks for bytes: owned ones if `OWNED`.
#[derive(Debug, PartialEq)]
struct Bytes<const OWNED: bool>(Vec<u8>);

impl<'de, const OWNED: bool> Deserialize<'de> for Bytes<OWNED> {
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
        let read = if OWNED {
            deserializer.deserialize_byte_buf(Any)
        } else {
            deserializer.deserialize_bytes(Any)
        };
        read.map(Self)
    }
}

#[test]
fn each_kind_of_value_is_read_as_by_serde_json() {
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
fn a_key_of_each_type_is_read_as_by_serde_json() {
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
