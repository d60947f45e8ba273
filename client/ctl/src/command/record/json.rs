//! An object a line: `{"key":"a","value":"b"}`.

use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use serde::{Deserialize, Serialize};

/// One record. Of key and key_base64 exactly one is given, of value and value_base64 too.
#[derive(Debug, Default, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
struct Record {
    #[serde(default, skip_serializing_if = "Option::is_none")]
    key: Option<String>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    key_base64: Option<String>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    value: Option<String>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    value_base64: Option<String>,
}

/// Reads a line.
pub(super) fn parse(line: &[u8]) -> Result<(Vec<u8>, Vec<u8>), String> {
    let record: Record = serde_json::from_slice(line).map_err(|error| not_a_record(&error))?;
    Ok((
        bytes("key", record.key, record.key_base64)?,
        bytes("value", record.value, record.value_base64)?,
    ))
}

/// Appends a line without its end.
pub(super) fn write(line: &mut Vec<u8>, key: &[u8], value: &[u8]) {
    let (key, key_base64) = text(key);
    let (value, value_base64) = text(value);
    let record = Record {
        key,
        key_base64,
        value,
        value_base64,
    };
    serde_json::to_writer(line, &record).expect("strings are written into memory");
}

/// The bytes as text, or else in base64.
fn text(bytes: &[u8]) -> (Option<String>, Option<String>) {
    match str::from_utf8(bytes) {
        Ok(text) => (Some(text.to_owned()), None),
        Err(_) => (None, Some(STANDARD.encode(bytes))),
    }
}

fn bytes(name: &str, text: Option<String>, base64: Option<String>) -> Result<Vec<u8>, String> {
    match (text, base64) {
        (Some(text), None) => Ok(text.into_bytes()),
        (None, Some(base64)) => STANDARD.decode(base64).map_err(|error| {
            format!("{name}_base64 is not base64 ({error}); give A-Z a-z 0-9 + / padded with =")
        }),
        (None, None) => Err(format!("no {name}; give {name} or {name}_base64, a string")),
        (Some(_), Some(_)) => Err(format!(
            "both {name} and {name}_base64; give {name} where it is text, else {name}_base64"
        )),
    }
}

fn not_a_record(error: &serde_json::Error) -> String {
    const RIGHT: &str = "give an object like {\"key\":\"a\",\"value\":\"b\"} on one line";
    let text = error.to_string();
    // The number of the line is always 1 there.
    let what = text.split(" at line ").next().unwrap_or(&text);
    format!("{what} (column {}); {RIGHT}", error.column())
}
