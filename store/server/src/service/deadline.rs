//! When the asker of a request stops waiting.

use std::time::Duration;

use tonic::metadata::MetadataMap;

/// How long a request may take whose asker does not say.
const TIME_DEFAULT: Duration = Duration::from_secs(10);

/// Longest time a request may take, whatever its asker says.
const TIME_MAX: Duration = Duration::from_secs(600);

/// The header in which gRPC carries the time the asker waits.
const HEADER: &str = "grpc-timeout";

/// How long the asker waits, less what the answer needs to get there: an answer that says
/// "undetermined" in time is better than silence.
pub(crate) fn patience(metadata: &MetadataMap, max_execution_ms: u64) -> Duration {
    let told = metadata
        .get(HEADER)
        .and_then(|value| parse(value.to_str().ok()?));
    let execution = (max_execution_ms > 0).then(|| Duration::from_millis(max_execution_ms));
    let time = match (told, execution) {
        (Some(told), Some(execution)) => told.min(execution),
        (Some(time), None) | (None, Some(time)) => time,
        (None, None) => TIME_DEFAULT,
    };
    let way_back = (time / 10).min(Duration::from_millis(25));
    time.min(TIME_MAX) - way_back.min(TIME_MAX)
}

/// Up to eight digits and a unit, as the gRPC specification says.
fn parse(text: &str) -> Option<Duration> {
    let (digits, unit) = text.split_at_checked(text.len().checked_sub(1)?)?;
    if digits.is_empty() || digits.len() > 8 || !digits.bytes().all(|digit| digit.is_ascii_digit())
    {
        return None;
    }
    let number: u64 = digits.parse().ok()?;
    Some(match unit {
        "H" => Duration::from_secs(number * 3600),
        "M" => Duration::from_secs(number * 60),
        "S" => Duration::from_secs(number),
        "m" => Duration::from_millis(number),
        "u" => Duration::from_micros(number),
        "n" => Duration::from_nanos(number),
        _ => return None,
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn wait(header: Option<&'static str>, max_execution_ms: u64) -> u128 {
        let mut metadata = MetadataMap::new();
        if let Some(header) = header {
            metadata.insert(HEADER, header.parse().expect("ascii"));
        }
        patience(&metadata, max_execution_ms).as_millis()
    }

    #[test]
    fn the_shorter_of_what_is_told_less_the_way_back() {
        assert_eq!(wait(None, 0), 9_975);
        assert_eq!(wait(Some("2S"), 0), 1_975);
        assert_eq!(wait(Some("100m"), 0), 90);
        assert_eq!(wait(Some("2S"), 1_000), 975);
        assert_eq!(wait(None, 20_000), 19_975);
        assert_eq!(wait(Some("99999999H"), 0), 599_975);
        assert_eq!(wait(Some("0n"), 0), 0);
    }

    #[test]
    fn what_is_no_time_is_not_heard() {
        for odd in ["", "S", "1", "123456789S", "-1S", "1 S", "1s", "é"] {
            assert_eq!(parse(odd), None, "{odd}");
        }
    }
}
