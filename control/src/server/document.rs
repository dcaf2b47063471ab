//! The text of a JSON body as a document. Pure.
//!
//! A name that stands twice in an object is refused wherever it is: readers differ in which of the two they take, so that a proxy and
//! this service, or two parts of it, would act on different requests (RFC 8259, section 4; RFC 7493, section 2.3).

use std::cell::RefCell;
use std::fmt;

use serde::de::{DeserializeSeed, Deserializer, Error, MapAccess, SeqAccess, Visitor};
use serde_json::{Map, Number, Value};

use crate::error::Fields;

/// What is read of a text.
#[derive(Debug)]
pub struct Document {
    /// Of names that stand twice, the last.
    pub value: Value,
    /// Names the fields that stand twice.
    pub fields: Fields,
}

/// The text is not JSON.
#[derive(Debug, thiserror::Error)]
pub enum NotJson {
    /// It ends before the document does.
    #[error("ends before it is complete")]
    Short,
    /// It goes on after the document.
    #[error("goes on after its end")]
    Long,
    /// Anything else, deeper nesting than 128 included.
    #[error("is not JSON")]
    Malformed,
}

impl Document {
    /// Reads all of `text`.
    pub fn read(text: &[u8]) -> Result<Self, NotJson> {
        let fields = RefCell::default();
        let mut reader = serde_json::Deserializer::from_slice(text);
        let node = Node {
            path: &Path::Root,
            fields: &fields,
        };
        let value = node.deserialize(&mut reader).map_err(|error| {
            if error.is_eof() {
                NotJson::Short
            } else {
                NotJson::Malformed
            }
        })?;
        reader.end().map_err(|_| NotJson::Long)?;
        Ok(Self {
            value,
            fields: fields.into_inner(),
        })
    }
}

/// Where in the document, as `details.fields` names it: `edge.rules[0].pattern`.
enum Path<'a> {
    Root,
    Member(&'a Path<'a>, &'a str),
    Item(&'a Path<'a>, usize),
}

impl fmt::Display for Path<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Root => Ok(()),
            Self::Member(Self::Root, name) => f.write_str(name),
            Self::Member(parent, name) => write!(f, "{parent}.{name}"),
            Self::Item(parent, position) => write!(f, "{parent}[{position}]"),
        }
    }
}

struct Node<'a> {
    path: &'a Path<'a>,
    fields: &'a RefCell<Fields>,
}

impl<'de> DeserializeSeed<'de> for Node<'_> {
    type Value = Value;

    fn deserialize<D: Deserializer<'de>>(self, reader: D) -> Result<Value, D::Error> {
        reader.deserialize_any(self)
    }
}

impl<'de> Visitor<'de> for Node<'_> {
    type Value = Value;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("JSON")
    }

    fn visit_unit<E: Error>(self) -> Result<Value, E> {
        Ok(Value::Null)
    }

    fn visit_bool<E: Error>(self, value: bool) -> Result<Value, E> {
        Ok(Value::Bool(value))
    }

    fn visit_i64<E: Error>(self, value: i64) -> Result<Value, E> {
        Ok(Value::from(value))
    }

    fn visit_u64<E: Error>(self, value: u64) -> Result<Value, E> {
        Ok(Value::from(value))
    }

    fn visit_f64<E: Error>(self, value: f64) -> Result<Value, E> {
        // The reader gives no number that JSON cannot write.
        Ok(Number::from_f64(value).map_or(Value::Null, Value::Number))
    }

    fn visit_str<E: Error>(self, value: &str) -> Result<Value, E> {
        Ok(Value::from(value))
    }

    fn visit_string<E: Error>(self, value: String) -> Result<Value, E> {
        Ok(Value::String(value))
    }

    fn visit_seq<A: SeqAccess<'de>>(self, mut items: A) -> Result<Value, A::Error> {
        let mut read = Vec::new();
        loop {
            let node = Node {
                path: &Path::Item(self.path, read.len()),
                fields: self.fields,
            };
            match items.next_element_seed(node)? {
                Some(item) => read.push(item),
                None => return Ok(Value::Array(read)),
            }
        }
    }

    fn visit_map<A: MapAccess<'de>>(self, mut members: A) -> Result<Value, A::Error> {
        let mut read = Map::new();
        while let Some(name) = members.next_key::<String>()? {
            let path = Path::Member(self.path, &name);
            if read.contains_key(&name) {
                self.fields.borrow_mut().refuse(path.to_string(), "is there twice");
            }
            let node = Node {
                path: &path,
                fields: self.fields,
            };
            let value = members.next_value_seed(node)?;
            read.insert(name, value);
        }
        Ok(Value::Object(read))
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn a_document_is_what_any_reader_makes_of_it() {
        for text in [
            "null",
            "true",
            "-3",
            "18446744073709551615",
            "1.5e300",
            r#""aé\n\u00e9""#,
            "[]",
            r#"[1,[2,{"a":null}]]"#,
            r#" {"a":{"b":[{"a":1},{"a":2}]},"b":""} "#,
        ] {
            let document = Document::read(text.as_bytes()).unwrap();
            assert_eq!(document.value, serde_json::from_str::<Value>(text).unwrap(), "{text}");
            assert!(document.fields.finish().is_ok(), "{text}");
        }
    }

    #[test]
    fn names_that_stand_twice_are_told_with_their_paths_wherever_they_are() {
        let text = r#"{"a":1,"a":2,"b":{"c":[{"d":1},{"d":1,"d":{"e":1,"e":2}}]},"f":[{"a":1}]}"#;
        let document = Document::read(text.as_bytes()).unwrap();
        let body = serde_json::to_value(document.fields.finish().unwrap_err().failure().to_body("req")).unwrap();
        let fields: Vec<_> = body["error"]["details"]["fields"].as_object().unwrap().keys().collect();
        assert_eq!(fields, ["a", "b.c[1].d", "b.c[1].d.e"]);
        assert_eq!(document.value["a"], json!(2));
    }

    #[test]
    fn what_is_no_json_is_refused_without_the_words_of_the_reader() {
        for (text, words) in [
            ("", "ends before it is complete"),
            ("{\"a\":", "ends before it is complete"),
            ("{} {}", "goes on after its end"),
            ("nonsense", "is not JSON"),
            ("{'a':1}", "is not JSON"),
            ("1e999", "is not JSON"),
        ] {
            assert_eq!(
                Document::read(text.as_bytes()).unwrap_err().to_string(),
                words,
                "{text}"
            );
        }
        let deep = "[".repeat(200_000);
        assert!(matches!(Document::read(deep.as_bytes()), Err(NotJson::Malformed)));
        assert!(matches!(Document::read(b"\"\xff\""), Err(NotJson::Malformed)));
    }
}
