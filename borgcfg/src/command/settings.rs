//! `settings`: what an operator may set of a cell.

use cell::live::view::{Answer, Question};
use cell::live::{Op, Rejected, Settings};
use clap::Args;
use serde_json::Value;

use crate::args::Options;
use crate::client::{Client, Session, another_answer};
use crate::failure::Failure;
use crate::output::answer;

#[derive(Args, Debug)]
pub(crate) struct SettingsArgs {
    /// What is to be set; a list is separated by commas
    #[arg(value_name = "NAME=VALUE")]
    changes: Vec<String>,
}

pub(crate) async fn run(
    args: &SettingsArgs,
    options: &Options,
    client: &mut Client,
) -> Result<(), Failure> {
    let Answer::Cell(cell) = client.status(Question::Cell).await?.answer else {
        return Err(another_answer());
    };
    let mut settings = cell.settings;
    if !args.changes.is_empty() {
        settings = changed(&settings, &args.changes)?;
        let op = Op::Configure(settings.clone());
        let done = Session::open(client, options.user()?).await?.change(op).await;
        // Only the master knows which policies there are; a bad one is bad input all the same.
        if let Err(Failure::Rejected(it @ Rejected::Invalid { .. })) = done {
            return Err(Failure::BadInput(it.to_string()));
        }
        done?;
    }
    answer(options.json, &settings, of_settings)
}

fn changed(settings: &Settings, changes: &[String]) -> Result<Settings, Failure> {
    let bad = |problem: String| Failure::BadInput(problem);
    let mut all = serde_json::to_value(settings).map_err(|error| bad(error.to_string()))?;
    for change in changes {
        let (name, text) =
            change.split_once('=').ok_or_else(|| bad(format!("{change:?} is not NAME=VALUE")))?;
        let slot = all.get_mut(name).ok_or_else(|| {
            bad(format!("there is no setting {name:?}; `borgcfg settings` lists all"))
        })?;
        *slot = match slot {
            Value::String(_) => Value::String(text.to_owned()),
            Value::Array(_) => {
                let items = text.split(',').filter(|item| !item.is_empty());
                Value::Array(items.map(|item| Value::String(item.to_owned())).collect())
            }
            Value::Null | Value::Bool(_) | Value::Number(_) | Value::Object(_) => {
                serde_json::from_str(text).unwrap_or_else(|_| Value::String(text.to_owned()))
            }
        };
    }
    let changed: Settings = serde_path_to_error::deserialize(all)
        .map_err(|error| bad(format!("setting `{}`: {}", error.path(), error.inner())))?;
    changed.check().map_err(|error| bad(error.to_string()))?;
    Ok(changed)
}

fn of_settings(settings: &Settings) -> String {
    let Ok(Value::Object(all)) = serde_json::to_value(settings) else { return String::new() };
    let lines = all.into_iter().map(|(name, value)| match value {
        Value::String(text) => format!("{name}={text}"),
        Value::Array(items) => {
            let items: Vec<&str> = items.iter().filter_map(Value::as_str).collect();
            format!("{name}={}", items.join(","))
        }
        value @ (Value::Null | Value::Bool(_) | Value::Number(_) | Value::Object(_)) => {
            format!("{name}={value}")
        }
    });
    lines.collect::<Vec<_>>().join("\n")
}

#[cfg(test)]
mod tests {
    use super::*;

    fn change(text: &str) -> Result<Settings, String> {
        changed(&Settings::default(), &[text.to_owned()]).map_err(|failure| failure.to_string())
    }

    #[test]
    fn settings_are_changed_by_name_and_read_as_they_are_printed() {
        assert_eq!(change("poll_interval_ms=500").unwrap().poll_interval_ms, 500);
        assert_eq!(change("admins=ann,bob").unwrap().admins, ["ann", "bob"]);
        assert_eq!(change("cell_name=5").unwrap().cell_name, "5");
        assert!(!change("needs_quota=false").unwrap().needs_quota);
        let settings = Settings { admins: vec!["ann".to_owned()], ..Settings::default() };
        let lines: Vec<String> = of_settings(&settings).lines().map(str::to_owned).collect();
        assert_eq!(changed(&Settings::default(), &lines).unwrap(), settings);
    }

    #[test]
    fn what_is_wrong_is_named() {
        for (text, part) in [
            ("poll=1", "no setting \"poll\""),
            ("poll_interval_ms", "NAME=VALUE"),
            ("poll_interval_ms=soon", "`poll_interval_ms`"),
            ("poll_interval_ms=1", "poll_interval_ms"),
        ] {
            let problem = change(text).unwrap_err();
            assert!(problem.contains(part), "{problem}");
        }
    }
}
