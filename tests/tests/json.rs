//! The JSON of the channel equals that of `serde_json`, byte by byte.

#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    reason = "a helper that fails is a test that fails"
)]

use std::collections::{BTreeMap, HashMap};

use kakehi_channel::{Decode, Encode, Json, low_level::Buffer};
use kakehi_tests::wire::for_all;
use proptest::{char::range, collection::vec, prelude::*};
use serde::{Serialize, Serializer};
use serde_json::{Value, json};

fn written<T: Serialize + ?Sized>(value: &T) -> Result<String, String> {
    let mut out = Buffer::new(16, 1 << 20);
    Json::default().encode(value, &mut out).map_err(|error| error.to_string())?;
    let frame = String::from_utf8(out.data().to_vec()).unwrap();
    Ok(frame.strip_suffix('\0').expect("a NUL byte at its end").to_owned())
}

#[track_caller]
fn as_serde_json<T: Serialize + ?Sized>(value: &T) {
    assert_eq!(written(value).unwrap(), serde_json::to_string(value).unwrap());
}

fn texts() -> impl Strategy<Value = String> {
    let plain = prop_oneof![Just(' '), range('a', 'z'), Just('é'), Just('☃'), Just('\u{10ffff}')];
    let special = prop_oneof![range('\0', '\u{1f}'), Just('"'), Just('\\'), Just('\u{7f}')];
    let dense = vec(any::<char>(), 0..40);
    let sparse = vec(prop_oneof![40 => plain, 1 => special], 0..200);
    prop_oneof![dense, sparse].prop_map(|chars| chars.into_iter().collect())
}

fn values() -> impl Strategy<Value = Value> {
    let leaf = prop_oneof![
        Just(Value::Null),
        any::<bool>().prop_map(Value::from),
        any::<i64>().prop_map(Value::from),
        any::<u64>().prop_map(Value::from),
        any::<f64>().prop_map(Value::from),
        texts().prop_map(Value::from),
    ];
    leaf.prop_recursive(4, 64, 8, |inner| {
        prop_oneof![
            vec(inner.clone(), 0..8).prop_map(Value::from),
            vec((texts(), inner), 0..8).prop_map(|entries| entries.into_iter().collect()),
        ]
    })
}

#[test]
fn any_text_is_written_as_serde_json_writes_it() {
    for_all(&texts(), |text| as_serde_json(&text));
}

#[test]
fn any_value_is_written_as_serde_json_writes_it() {
    for_all(&values(), |value| as_serde_json(&value));
}

#[test]
fn a_number_is_received_as_it_was_sent() {
    for_all(&any::<f64>().prop_filter("JSON has it", |number| number.is_finite()), |number| {
        let json = written(&vec![number]).unwrap();
        let read: Vec<f64> = Json::default().decode(json.as_bytes()).unwrap();
        assert_eq!(read[0].to_bits(), number.to_bits(), "{json}");
    });
}

#[derive(Serialize)]
enum Deep {
    Pair(Value, u8),
}

/// So many levels, the innermost of which is one of bytes.
struct DeepBytes(u8);

impl Serialize for DeepBytes {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        match self.0 {
            1 => serializer.serialize_bytes(b"1"),
            levels => [Self(levels - 1)].serialize(serializer),
        }
    }
}

#[test]
fn what_is_nested_too_deeply_to_be_read_is_not_written() {
    let nested = |levels| {
        (1..levels).fold(json!([]), |inside, level| match level % 2 {
            0 => json!([inside]),
            _ => json!({ "inside": inside }),
        })
    };
    let deepest = nested(127);
    let read: Value = Json::default().decode(written(&deepest).unwrap().as_bytes()).unwrap();
    assert_eq!(read, deepest);
    assert!(written(&nested(128)).unwrap_err().contains("nested more than 127 levels deep"));
    assert!(written(&Deep::Pair(nested(125), 1)).is_ok());
    assert!(written(&Deep::Pair(nested(126), 1)).is_err());
    assert!(written(&DeepBytes(127)).is_ok());
    assert!(written(&DeepBytes(128)).is_err());
}

#[test]
fn each_byte_that_is_special_is_found_wherever_it_stands() {
    for special in (0..=0x7f).map(char::from) {
        for before in 0..40 {
            let text = format!("{}{special}{}", "x".repeat(before), "y".repeat(40 - before));
            as_serde_json(&text);
        }
    }
}

#[derive(Serialize)]
enum Shape {
    Unit,
    Newtype(u8),
    Tuple(u8, &'static str),
    Struct { side: f32, name: Option<char> },
}

#[derive(Serialize)]
struct Unit;
#[derive(Serialize)]
struct Newtype(i128);
#[derive(Serialize)]
struct Tuple(u128, bool);
#[derive(Serialize)]
struct Empty {}

struct Bytes;

impl Serialize for Bytes {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.serialize_bytes(b"bytes\0")
    }
}

#[test]
fn names_of_fields_are_escaped_whatever_their_length() {
    #[derive(Serialize)]
    struct Named {
        #[serde(rename = "a\"b")]
        short: u8,
        #[serde(rename = "\\")]
        shorter: u8,
        #[serde(rename = "a longer name with a \n in it")]
        long: u8,
        #[serde(rename = "a longer name without one")]
        plain: u8,
    }
    as_serde_json(&Named { short: 1, shorter: 2, long: 3, plain: 4 });
}

#[test]
fn each_kind_of_data_is_written_as_serde_json_writes_it() {
    as_serde_json(&Shape::Unit);
    as_serde_json(&Shape::Newtype(7));
    as_serde_json(&Shape::Tuple(7, "\"seven\""));
    as_serde_json(&Shape::Struct { side: 0.1, name: Some('\n') });
    as_serde_json(&Shape::Struct { side: f32::NAN, name: None });
    as_serde_json(&(Unit, Newtype(i128::MIN), Tuple(u128::MAX, true), Empty {}, Bytes, ()));
    as_serde_json(&(i8::MIN, i16::MIN, i32::MIN, u16::MAX, u32::MAX, f64::INFINITY));
    as_serde_json::<[u8]>(&[]);
    as_serde_json("borrowed");
    as_serde_json(&Some(Some("nested")));
}

#[derive(PartialEq, Eq, PartialOrd, Ord, Serialize)]
enum Letter {
    A,
}

#[test]
fn keys_of_maps_are_texts_or_stand_for_one() {
    as_serde_json(&BTreeMap::from([("a\n", 1), ("b", 2)]));
    as_serde_json(&BTreeMap::from([(-1_i8, 'x')]));
    as_serde_json(&BTreeMap::from([(u128::MAX, 'x')]));
    as_serde_json(&BTreeMap::from([('"', 'x')]));
    as_serde_json(&BTreeMap::from([(true, 'x')]));
    as_serde_json(&BTreeMap::from([(Letter::A, 'x')]));
    as_serde_json(&BTreeMap::from([(Some("some"), 'x')]));
    as_serde_json(&HashMap::<u8, u8>::new());
    for error in [
        written(&BTreeMap::from([(vec![1], 'x')])),
        written(&BTreeMap::from([((), 'x')])),
        written(&BTreeMap::from([((1, 2), 'x')])),
        written(&BTreeMap::from([(None::<u8>, 'x')])),
    ] {
        let error = error.unwrap_err();
        assert!(error.contains("key must be a string"), "{error}");
    }
}

/// A map of one entry.
struct One<K>(K);

impl<K: Serialize> Serialize for One<K> {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_map([(&self.0, 1)])
    }
}

#[test]
fn a_key_of_any_kind_is_written_or_refused_as_by_serde_json() {
    #[track_caller]
    fn alike<K: Serialize>(key: K) {
        let ours = written(&One(&key));
        match serde_json::to_string(&One(key)) {
            Ok(theirs) => assert_eq!(ours.unwrap(), theirs),
            Err(theirs) => {
                assert_eq!(ours.unwrap_err(), format!("cannot encode the message: {theirs}"));
            }
        }
    }
    alike(0.1_f32);
    alike(-1e300);
    alike(f32::NAN);
    alike(f64::INFINITY);
    alike(Newtype(-7));
    alike(Bytes);
    alike(Unit);
    alike(Shape::Unit);
    alike(Shape::Newtype(7));
    alike(Shape::Tuple(7, "seven"));
    alike(Shape::Struct { side: 0.1, name: None });
    alike(Tuple(1, true));
    alike(Empty {});
    alike(BTreeMap::from([(1, 2)]));
}

/// Serializes as the `RawValue` of `serde_json` does.
#[derive(Serialize)]
#[serde(rename = "$serde_json::private::RawValue")]
struct Raw {
    #[serde(rename = "$serde_json::private::RawValue")]
    json: &'static str,
}

#[derive(Serialize)]
#[serde(rename = "$serde_json::private::RawValue")]
struct NoJson {
    #[serde(rename = "$serde_json::private::RawValue")]
    json: u8,
}

#[test]
fn json_that_stands_already_is_written_as_it_is() {
    let raw = Raw { json: r#"{ "as" : "it is" }"# };
    assert_eq!(written(&[raw]).unwrap(), r#"[{ "as" : "it is" }]"#);

    let error = written(&[NoJson { json: 1 }]).unwrap_err();
    assert!(error.contains("a raw value is not JSON text"), "{error}");
}
