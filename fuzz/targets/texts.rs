//! Decimals, times, windows and metric names as texts: no panic, and what is read prints as the same.
#![no_main]

use libfuzzer_sys::fuzz_target;
use trialog_model::decimal::Value;
use trialog_model::duration::Window;
use trialog_model::metric::MetricRef;
use trialog_model::time::UnixMicros;
use trialog_model::user_id::user_id_from_text;

fuzz_target!(|text: &str| {
    if let Ok(value) = Value::parse(text) {
        let printed = value.to_string();
        assert_eq!(Value::parse(&printed), Ok(value), "{printed}");
    }
    if let Ok(time) = UnixMicros::parse_rfc3339(text.as_bytes()) {
        let printed = time.to_rfc3339();
        assert_eq!(UnixMicros::parse_rfc3339(printed.as_bytes()), Ok(time), "{printed}");
    }
    if let Ok(window) = Window::parse(text) {
        assert_eq!(Window::parse(&window.to_string()), Ok(window));
    }
    if let Ok(metric) = text.parse::<MetricRef>() {
        let printed = String::from(metric.clone());
        assert_eq!(printed.parse(), Ok(metric), "{printed}");
    }
    let user = user_id_from_text(text);
    assert_eq!(user_id_from_text(&user.to_string()), user);
});
