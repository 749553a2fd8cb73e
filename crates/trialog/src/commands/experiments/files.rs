//! Reads experiments and metric definitions from files, as a git repository keeps them.

use std::collections::BTreeMap;
use std::fmt;
use std::io::Read;
use std::path::{Path, PathBuf};

use anyhow::{Context, anyhow, bail};
use serde::Deserialize;
use serde_json::Value;
use trialog_model::document;
use trialog_model::experiment::Definition;
use trialog_model::metric_definition::MetricDefinition;

/// Everything that the files declare, in their order, checked.
#[derive(Debug, Default)]
pub(super) struct Declared {
    pub(super) metrics: Vec<MetricDefinition>,
    pub(super) experiments: Vec<Definition>,
    /// Where each was found, by what it is.
    places: BTreeMap<(&'static str, String), Place>,
}

/// The position of a declaration in a file.
#[derive(Debug, Clone)]
struct Place {
    file: String,
    index: usize,
}

impl fmt::Display for Place {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "number {} of `{}`", self.index + 1, self.file)
    }
}

/// A file with metric definitions beside experiments.
#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Bundle {
    #[serde(default)]
    metrics: Vec<Value>,
    #[serde(default)]
    experiments: Vec<Value>,
}

impl Declared {
    /// Reads every file of `paths`; of a directory, all that end in `.json`.
    pub(super) fn read(paths: &[PathBuf]) -> anyhow::Result<Self> {
        let mut declared = Self::default();
        for path in paths {
            if path == Path::new("-") {
                let mut text = String::new();
                std::io::stdin()
                    .read_to_string(&mut text)
                    .context("cannot read standard input")?;
                declared.add("-", &text)?;
                continue;
            }
            let files = files(path)?;
            if files.is_empty() {
                bail!("`{}` has no .json file", path.display());
            }
            for file in files {
                let name = file.display().to_string();
                let text = std::fs::read_to_string(&file)
                    .with_context(|| format!("cannot read `{name}`"))?;
                declared.add(&name, &text)?;
            }
        }
        Ok(declared)
    }

    fn add(&mut self, file: &str, text: &str) -> anyhow::Result<()> {
        let value = document::value(text.as_bytes()).map_err(|error| {
            // The file is the document.
            anyhow!("`{file}` {}", error.reason)
        })?;
        let bundle = match value {
            Value::Array(experiments) => Bundle {
                metrics: Vec::new(),
                experiments,
            },
            bundle if is_bundle(&bundle) => document::from_value(bundle)
                .with_context(|| format!("`{file}` has experiments or metrics, and more"))?,
            one => Bundle {
                metrics: Vec::new(),
                experiments: vec![one],
            },
        };
        let place = |index| Place {
            file: file.to_owned(),
            index,
        };
        for (index, fields) in bundle.metrics.into_iter().enumerate() {
            let place = place(index);
            let metric =
                MetricDefinition::from_json(fields).with_context(|| format!("metric {place}"))?;
            self.note("metric", metric.name.as_str(), &place)?;
            self.metrics.push(metric);
        }
        for (index, fields) in bundle.experiments.into_iter().enumerate() {
            let place = place(index);
            let context = || format!("experiment {place}");
            let definition: Definition = document::from_value(fields).with_context(context)?;
            definition.check().with_context(context)?;
            self.note("experiment", definition.experiment_id.as_str(), &place)?;
            self.experiments.push(definition);
        }
        Ok(())
    }

    /// Refuses what was declared before.
    fn note(&mut self, what: &'static str, name: &str, place: &Place) -> anyhow::Result<()> {
        let known = self.places.insert((what, name.to_owned()), place.clone());
        match known {
            Some(known) => bail!("{what} `{name}` stands twice: {known}, and {place}"),
            None => Ok(()),
        }
    }
}

/// An experiment has an id, and its metrics are an object.
fn is_bundle(value: &Value) -> bool {
    value.get("experiment_id").is_none()
        && (value.get("experiments").is_some() || value.get("metrics").is_some_and(Value::is_array))
}

/// `path`, or the `.json` files below it in the order of their paths; what is
/// hidden, such as `.git`, is passed over.
fn files(path: &Path) -> anyhow::Result<Vec<PathBuf>> {
    if !path.is_dir() {
        return Ok(vec![path.to_owned()]);
    }
    let mut found = Vec::new();
    let mut directories = vec![path.to_owned()];
    while let Some(directory) = directories.pop() {
        let context = || format!("cannot read the directory `{}`", directory.display());
        for entry in std::fs::read_dir(&directory).with_context(context)? {
            let entry = entry.with_context(context)?;
            if entry.file_name().to_string_lossy().starts_with('.') {
                continue;
            }
            let path = entry.path();
            // A linked directory is not entered, so there is no way round in circles.
            if entry.file_type().with_context(context)?.is_dir() {
                directories.push(path);
            } else if path
                .extension()
                .is_some_and(|extension| extension == "json")
                && path.is_file()
            {
                found.push(path);
            }
        }
    }
    found.sort();
    Ok(found)
}

#[cfg(test)]
mod tests {
    use super::*;

    const GATE: &str = r#"{"experiment_id":"gate","variants":[{"variant":"a"}],"metrics":{"primary":["revenue"]}}"#;
    const REVENUE: &str = r#"{"name":"revenue","kind":"sum","event_type":"buy"}"#;

    fn read(files: &[(&str, &str)]) -> anyhow::Result<Declared> {
        let directory = tempfile::tempdir().unwrap();
        for (name, text) in files {
            let path = directory.path().join(name);
            std::fs::create_dir_all(path.parent().unwrap()).unwrap();
            std::fs::write(path, text).unwrap();
        }
        Declared::read(&[directory.path().to_owned()])
    }

    #[test]
    fn a_directory_is_read_whole_and_in_order() {
        let bundle = format!(r#"{{"metrics":[{REVENUE}]}}"#);
        let other = GATE.replace("gate", "early");
        let declared = read(&[
            ("z.json", GATE),
            ("games/a.json", &format!("[{other}]")),
            ("metrics.json", &bundle),
            (".git/x.json", "nonsense"),
            ("notes.txt", "nonsense"),
        ])
        .unwrap();
        let ids: Vec<&str> = (declared.experiments.iter())
            .map(|experiment| experiment.experiment_id.as_str())
            .collect();
        assert_eq!(ids, ["early", "gate"]);
        assert_eq!(declared.metrics.len(), 1);
    }

    #[test]
    fn what_cannot_be_meant_is_refused_with_its_place() {
        let typo = GATE.replace("variants", "variant");
        let bundle = format!(r#"{{"metrics":[{REVENUE}],"experiment":[]}}"#);
        for (files, said) in [
            (vec![("a.json", GATE), ("b.json", GATE)], "stands twice"),
            (vec![("a.json", typo.as_str())], "experiment number 1 of"),
            (vec![("a.json", bundle.as_str())], "and more"),
            (vec![("a.json", "{")], "is not JSON"),
            (vec![("a.txt", GATE)], "has no .json file"),
        ] {
            let refused = format!("{:#}", read(&files).unwrap_err());
            assert!(refused.contains(said), "{refused}");
        }
    }
}
