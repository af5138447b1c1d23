//! The jobs of kakehid as tools: the declared arguments are the properties.

use serde::Deserialize;
use serde_json::{Map, Value, json};

use super::{offer::is_tool_name, schema::empty};

/// The property of a job that must be confirmed.
const CONFIRMED: &str = "confirmed";

/// A job in the answer of `list`.
#[derive(Debug, Deserialize)]
pub(super) struct Job {
    #[serde(rename = "job")]
    name: String,
    #[serde(default)]
    about: String,
    #[serde(default)]
    arguments: Vec<Argument>,
    #[serde(default)]
    confirm: bool,
}

#[derive(Debug, Deserialize)]
struct Argument {
    name: Option<String>,
    #[serde(default)]
    pattern: String,
    #[serde(default)]
    required: bool,
    #[serde(default)]
    choices: Vec<String>,
    default: Option<String>,
}

/// The jobs in the content of the answer to `list`.
pub(super) fn jobs(content: &str) -> Vec<Job> {
    let jobs: Vec<Job> = serde_json::from_str(content).unwrap_or_default();
    jobs.into_iter().filter(|job| is_tool_name(&job.tool_name())).collect()
}

impl Job {
    pub(super) fn tool_name(&self) -> String {
        format!("run_{}", self.name)
    }

    pub(super) fn text(&self) -> String {
        let about = if self.about.is_empty() { String::new() } else { format!(": {}", self.about) };
        format!(
            "Runs the job `{}`{about}. The result has the last 64 KiB of its output.",
            self.name
        )
    }

    pub(super) fn schema(&self) -> Map<String, Value> {
        let mut properties = Map::new();
        let mut required = vec![];
        if self.confirm {
            let about = "Whether the user has confirmed this run. Ask the user first.";
            properties.insert(CONFIRMED.to_owned(), json!({ "const": true, "description": about }));
            required.push(CONFIRMED.to_owned());
        }
        for (index, argument) in self.arguments.iter().enumerate() {
            let name = argument.name(index);
            if argument.required {
                required.push(name.clone());
            }
            properties.insert(name, argument.schema());
        }
        let mut schema = empty();
        schema.insert("properties".to_owned(), Value::Object(properties));
        schema.insert("required".to_owned(), json!(required));
        schema.insert("additionalProperties".to_owned(), json!(false));
        schema
    }

    /// The command that runs the job. `arguments` fit the schema.
    pub(super) fn command(&self, arguments: &Value) -> Result<Value, String> {
        let mut args = vec![];
        let mut skipped = None;
        for (index, argument) in self.arguments.iter().enumerate() {
            let name = argument.name(index);
            match arguments.get(&name).and_then(Value::as_str) {
                Some(_) if skipped.is_some() => {
                    let skipped = skipped.unwrap_or_default();
                    return Err(format!("`{name}` needs `{skipped}`, which stands before it"));
                }
                Some(value) => args.push(value.to_owned()),
                None => match &argument.default {
                    Some(default) if skipped.is_none() => args.push(default.clone()),
                    _ => skipped = skipped.or(Some(name)),
                },
            }
        }
        let mut run = vec![("job", json!(self.name)), ("args", json!(args))];
        if self.confirm {
            run.push((CONFIRMED, json!(true)));
        }
        let run: Value = run.into_iter().map(|(key, value)| (key.to_owned(), value)).collect();
        Ok(json!({ "run": run }))
    }
}

impl Argument {
    fn name(&self, index: usize) -> String {
        self.name.clone().unwrap_or_else(|| format!("argument{}", index + 1))
    }

    fn schema(&self) -> Value {
        let mut schema = vec![("type", json!("string"))];
        if !self.choices.is_empty() {
            schema.push(("enum", json!(self.choices)));
        } else if !self.pattern.is_empty() {
            // The syntax of the daemon's patterns is not quite that of a schema.
            let about = format!("Must match {} in full.", self.pattern);
            schema.push(("description", about.into()));
        }
        schema.extend(self.default.as_ref().map(|default| ("default", json!(default))));
        schema.into_iter().map(|(key, value)| (key.to_owned(), value)).collect()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn job() -> Job {
        let list = r#"[{"job":"backup","about":"archive","args":[],"at_once":1,"arguments":[
            {"name":"folder","pattern":"[a-z]+","required":true,"secret":false},
            {"pattern":"","required":false,"secret":false,"choices":["fast","slow"],"default":"slow"},
            {"name":"note","pattern":".*","required":false,"secret":true}]}, {"job":"a b"}]"#;
        let [job] = <[Job; 1]>::try_from(jobs(list)).unwrap();
        job
    }

    #[test]
    fn declared_arguments_are_properties() {
        let schema = Value::Object(job().schema());
        assert_eq!(schema["required"], json!(["folder"]));
        assert_eq!(schema["properties"]["folder"]["description"], "Must match [a-z]+ in full.");
        assert_eq!(schema["properties"]["argument2"]["enum"], json!(["fast", "slow"]));
        assert_eq!(schema["properties"]["argument2"]["default"], "slow");
    }

    #[test]
    fn properties_become_arguments_in_their_order() {
        let args =
            |given: Value| job().command(&given).map(|command| command["run"]["args"].clone());
        assert_eq!(args(json!({ "folder": "a" })), Ok(json!(["a", "slow"])));
        assert_eq!(args(json!({ "note": "n", "folder": "a" })), Ok(json!(["a", "slow", "n"])));
        let mut job = job();
        job.arguments[1].default = None;
        let given = json!({ "folder": "a", "note": "n" });
        assert_eq!(
            job.command(&given),
            Err("`note` needs `argument2`, which stands before it".to_owned())
        );
        job.confirm = true;
        let given = json!({ "folder": "a", "confirmed": true });
        assert_eq!(
            job.command(&given).unwrap()["run"],
            json!({ "job": "backup", "args": ["a"], "confirmed": true })
        );
        assert_eq!(job.schema()["required"], json!(["confirmed", "folder"]));
    }
}
