//! A router's description of itself.

use kakehi_command::Description;
use kakehi_server::{Answer, Context, Failure};

use crate::{AnyReply, route::Table};

pub(super) async fn answer<S>(
    table: &Table<S>,
    name: String,
    version: String,
    context: &Context<()>,
) -> Result<Answer<AnyReply>, Failure<AnyReply>> {
    let mut commands = vec![];
    for route in table.routes() {
        let mut command = route.describe();
        if let Some(guard) = route.permission() {
            command.allowed = guard(context.peer()).await.is_ok();
        }
        commands.push(command);
    }
    let message = match commands.len() {
        1 => "1 command".to_owned(),
        count => format!("{count} commands"),
    };
    let description = Description { name, version, commands };
    Ok(Answer { message, content: Some(AnyReply::new(description)) })
}
