//! The JSON Schema of the configuration file, for editors and other checkers.
use serde_json::{Map, Value as Json, json};

use super::Config;
use super::format::{DefaultValue, Kind, Row, Section};
use super::keys::CONFIG;
use super::table::{Keys as _, Reload};

/// The schema of the whole file. It is a little stricter than the program, which also takes numbers
/// in quotes and the switches `yes` and `no`.
pub fn schema() -> Json {
    let rows = CONFIG.rows(&Config::default());
    let mut schema = of(&Kind::Section(Section { rows, required: &[], together: &[] }));
    schema["$schema"] = "https://json-schema.org/draft/2020-12/schema".into();
    schema["title"] = "Configuration of tfs-sidecar".into();
    schema
}

pub(super) fn of(kind: &Kind) -> Json {
    match kind {
        Kind::Value(schema) => schema.clone(),
        Kind::Named { name, each } => json!({
            "type": ["object", "null"], "propertyNames": {"title": name}, "additionalProperties": of(each)
        }),
        Kind::Section(section) => {
            let properties: Map<String, Json> =
                section.rows.iter().map(|row| (row.name.to_owned(), property(row))).collect();
            // A section without any line under it is empty.
            let mut schema =
                json!({"type": ["object", "null"], "properties": properties, "additionalProperties": false});
            if !section.required.is_empty() {
                schema["required"] = json!(section.required);
            }
            for name in section.together {
                let others = section.together.iter().filter(|other| *other != name);
                schema["dependentRequired"][name] = others.copied().collect();
            }
            schema
        }
    }
}

fn property(row: &Row) -> Json {
    let mut schema = of(&row.kind);
    schema["description"] = match row.default {
        Some(DefaultValue::Words(words)) => format!("{} Default: {words}.", row.help).into(),
        _ => row.help.into(),
    };
    if row.reload == Reload::Restart {
        schema["description"] =
            format!("{} A change needs a restart.", schema["description"].as_str().unwrap_or_default())
                .into();
    }
    if let Some(DefaultValue::Printed(tree)) = &row.default {
        schema["default"] = json!(tree);
    }
    schema
}
