//! Inputs of `POST /v1/calc/{family}`: no panic and no hang, and an answer has a status
//! and no number that is not finite.
#![no_main]

use libfuzzer_sys::fuzz_target;
use serde_json::Value;
use trialog_stats::calc::{CalcError, FAMILIES, calc};

fuzz_target!(|input: &[u8]| {
    let [family, form, rest @ ..] = input else {
        return;
    };
    let family = &FAMILIES[usize::from(*family) % FAMILIES.len()];
    let parsed = if form % 2 == 0 {
        serde_json::from_slice(rest).ok()
    } else {
        serde_json::from_str(family.example).ok().map(|mut example| {
            let mut bytes = rest.iter().copied();
            replace_numbers(&mut example, &mut bytes);
            example
        })
    };
    let Some(parsed) = parsed else { return };
    match calc(family.name, &parsed) {
        Ok(answer) => {
            assert!(matches!(answer["status"].as_str(), Some("ok" | "undefined")), "{answer}");
        }
        Err(CalcError::Field { field, reason }) => assert!(!field.is_empty() && !reason.is_empty()),
        Err(other) => panic!("{other}"),
    }
});

/// Puts numbers made of the input in the place of those of an example: small ones, any
/// double, or none.
fn replace_numbers(value: &mut Value, bytes: &mut impl Iterator<Item = u8>) {
    match value {
        Value::Object(fields) => fields.values_mut().for_each(|own| replace_numbers(own, bytes)),
        Value::Array(items) => items.iter_mut().for_each(|own| replace_numbers(own, bytes)),
        Value::Number(_) => match bytes.next().map(|choice| (choice % 4, choice)) {
            None | Some((0, _)) => {}
            Some((1, choice)) => *value = (choice / 4).into(),
            Some((2, choice)) => *value = (f64::from(choice) / 256.0).into(),
            Some(_) => {
                let mut eight = [0; 8];
                eight.fill_with(|| bytes.next().unwrap_or(0));
                *value = f64::from_bits(u64::from_le_bytes(eight)).into();
            }
        },
        Value::Null | Value::Bool(_) | Value::String(_) => {}
    }
}
