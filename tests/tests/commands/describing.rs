//! A router's description of itself.

use kakehi::{Description, Request, server::Context};
use serde_json::{Value, json};

use crate::support::{Raw, router};

async fn described(uid: u32) -> Description {
    let answer = Raw::of(router(), uid).ask(r#""kakehi.describe""#).await;
    assert_eq!(answer["status"], "OK", "{answer}");
    serde_json::from_value(answer["content"].clone()).unwrap()
}

#[tokio::test]
async fn a_router_tells_its_name_and_its_commands() {
    let description = described(0).await;
    assert_eq!((&*description.name, &*description.version), ("cached", "1.2.3"));
    let names: Vec<_> = description.commands.iter().map(|command| &*command.name).collect();
    assert_eq!(names, ["no-schema", "purge", "stats", "warm"]);
    let warm = &description.commands[3];
    let text = "Loads every key under a prefix into memory.\n\nKeys that are in memory already are skipped.";
    assert_eq!(warm.text, text);
    let read_only = description.commands.iter().map(|command| command.read_only);
    assert_eq!(read_only.collect::<Vec<_>>(), [false, false, true, false]);
}

#[tokio::test]
async fn it_says_what_the_caller_may_run() {
    let allowed = |description: Description| {
        description.commands.iter().map(|command| command.allowed).collect::<Vec<_>>()
    };
    assert_eq!(allowed(described(0).await), [true; 4]);
    assert_eq!(allowed(described(1000).await), [true, false, true, true]);
}

#[tokio::test]
async fn schemas_are_of_what_is_read_and_of_what_is_written() {
    let description = described(0).await;
    let [without, purge, stats, warm] = &description.commands[..] else { panic!() };
    assert_eq!(without.schemas.arguments, None);
    assert_eq!((&without.schemas.progress, &without.schemas.reply), (&None, &None));
    assert_eq!(purge.schemas.arguments.as_ref().unwrap()["type"], "null");
    let schemas = &warm.schemas;
    let arguments = schemas.arguments.as_ref().unwrap();
    assert_eq!(arguments["required"], json!(["prefix"]), "the limit has a default");
    let limit = &arguments["properties"]["limit"];
    assert_eq!((&limit["minimum"], &limit["maximum"]), (&json!(0), &json!(u32::MAX)));
    assert_eq!(limit.get("default"), None, "{limit}");
    let report = schemas.reply.as_ref().unwrap();
    assert_eq!(report["required"], json!(["loaded", "note"]), "both are always written");
    assert_eq!(schemas.progress.as_ref().unwrap()["title"], "Step");
    assert_eq!(schemas.fault.as_ref().unwrap()["properties"]["free"]["maximum"], json!(u64::MAX));
    assert_eq!(stats.schemas.reply.as_ref().unwrap()["maximum"], json!(u32::MAX));
}

#[tokio::test]
async fn arguments_of_the_description_are_ignored() {
    let answer = Raw::of(router(), 0).ask(r#"{"kakehi.describe":{"of_later":1}}"#).await;
    assert_eq!(answer["content"]["name"], Value::from("cached"));
}

/// Such a server decodes each request as its own enum, which has no such variant.
#[tokio::test]
async fn a_server_without_a_router_answers_too() {
    #[derive(serde::Deserialize)]
    enum Commands {
        Known,
    }
    let handler = async |request: Request<Commands>, _: Context| match request.command {
        Some(Commands::Known) => Ok("known"),
        None => Err("no command"),
    };
    let mut client = Raw::serving(handler, 0);
    let answer = client.ask(r#""kakehi.describe""#).await;
    assert_eq!((&answer["status"], &answer["id"]), (&json!("OK"), &json!("a")), "{answer}");
    assert_eq!(client.ask(r#""Known""#).await["message"], "known");
    assert_eq!(client.ask(r#""kakehi.later""#).await["refused"], "unsupported");
}

/// Each way to write a reserved name, and the name.
const RESERVED: [(&str, &str); 7] = [
    (r#""kakehi.describe""#, "kakehi.describe"),
    (r#"{"kakehi.describe":{}}"#, "kakehi.describe"),
    (r#"{"kakehi.describe":null}"#, "kakehi.describe"),
    (r#""\u006bakehi.describe""#, "kakehi.describe"),
    (r#"{"kakehi\u002edescribe":{"of_later":[1]}}"#, "kakehi.describe"),
    (r#""kakehi.later""#, "kakehi.later"),
    (r#"{"kakehi.later":{"a":1}}"#, "kakehi.later"),
];

/// No handler gets a reserved name, whatever commands it takes.
async fn reserves<C: serde::de::DeserializeOwned + Send + 'static>(free: &[&str]) {
    let handler = async |_: Request<C>, _: Context| Ok::<_, String>("handled");
    let mut client = Raw::serving(handler, 0);
    for (command, name) in RESERVED {
        let answer = client.ask(command).await;
        assert_eq!(answer["id"], "a", "{command}: {answer}");
        if name == "kakehi.describe" {
            assert_eq!(answer["status"], "OK", "{command}: {answer}");
            assert_eq!(answer["message"], "this server does not list its commands");
        } else {
            assert_eq!(answer["refused"], "unsupported", "{command}: {answer}");
            assert_eq!(answer["message"], "there is no command `kakehi.later`");
        }
    }
    for command in free {
        assert_eq!(client.ask(command).await["message"], "handled", "{command}");
    }
}

#[tokio::test]
async fn a_reserved_name_reaches_no_handler() {
    #[derive(serde::Deserialize)]
    #[serde(rename_all = "snake_case")]
    enum Lenient {
        Known,
        #[serde(other)]
        Other,
    }
    let _ = Lenient::Known;
    reserves::<String>(&[r#""kakehi""#, r#""x/kakehi.describe""#, r#""\u006bakehi""#]).await;
    let texts = [r#""x""#, r#"{"run":"kakehi.describe"}"#, r#"["kakehi.describe"]"#, "7", "null"];
    reserves::<Value>(&texts).await;
    reserves::<Box<serde_json::value::RawValue>>(&texts[..4]).await;
    reserves::<serde::de::IgnoredAny>(&texts).await;
    reserves::<Lenient>(&[r#""known""#, r#""kakehi-other""#]).await;
    reserves::<u8>(&["7"]).await;
}
