//! Formats the table of the keys of contexts.

use std::fmt::Write;

use trialog_report::{Context, ContextKey};

use super::Table;

/// Values of a key that are shown.
const MOST_VALUES: usize = 5;

/// Shows each key with the values that most users have.
pub(crate) fn context(context: &Context) -> String {
    let computed = context.computed_at.as_deref().unwrap_or("never");
    let mut text = format!(
        "{}: {} exposed users, computed at {computed}\n\n",
        context.experiment_id, context.users
    );
    if context.keys.is_empty() {
        text.push_str(match context.users {
            0 => "no exposed users\n",
            _ => "no context came with the assignments\n",
        });
        return text;
    }
    let mut table = Table::new(&["key", "users", "values", "most users have"]);
    for key in &context.keys {
        table.row([
            key.key.clone(),
            key.users.to_string(),
            key.n_values.to_string(),
            values(key),
        ]);
    }
    text.push_str(&table.text());
    // Writing to a String cannot fail.
    if context.n_keys > context.keys.len() as u64 {
        let _ = writeln!(text, "\n{} keys in all", context.n_keys);
    }
    if context.has_more_keys {
        text.push_str("\nMore than 10,000 keys: is a value sent as a key?\n");
    }
    text
}

fn values(key: &ContextKey) -> String {
    let shown: Vec<String> = (key.values.iter().take(MOST_VALUES))
        .map(|value| format!("{} ({})", value.value, value.users))
        .collect();
    let more = match key.n_values > shown.len() as u64 {
        true => ", ...",
        false => "",
    };
    format!("{}{more}", shown.join(", "))
}
