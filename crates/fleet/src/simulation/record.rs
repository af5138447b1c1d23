//! Checks each message that a broker takes or delivers.

use async_nats::Message;
use kakehi_channel::Request;

use super::{
    court::{Accepted, Court},
    plan::Command,
};
use crate::message::{Control, ControlKind, FromNode, ToNode};

impl Court {
    /// A broker took a message of a node.
    pub(super) fn node_published(&mut self, process: usize, message: &Message) {
        let subject = message.subject.to_string();
        let Some(token) = self.inboxes.get(&subject).copied() else { return };
        match FromNode::read(message) {
            Some(FromNode::Accept(accept)) => {
                self.note("accept", token, process);
                let is_second = self.accepts.values().any(|accepted| accepted.token == token);
                if is_second {
                    self.reach("two accepts");
                }
                let accepted = Accepted {
                    token,
                    process,
                    life: self.processes[process].life,
                    at: self.now,
                    go: None,
                    has_started: false,
                    credit: 0,
                    top: 0,
                };
                self.accepts.insert(accept.to_string(), accepted);
            }
            Some(FromNode::Batch { seq, is_final, .. }) => {
                self.note("batch", token, usize::try_from(seq).unwrap_or(0));
                self.batch(token, seq, is_final, message);
            }
            Some(FromNode::Settled(frames)) => {
                self.note("settled", token, process);
                self.journal.tell(|| String::from_utf8_lossy(&frames).into_owned());
            }
            _ => self.note("another message of a node", token, process),
        }
    }

    fn batch(&mut self, token: usize, seq: u64, is_final: bool, message: &Message) {
        let reply = message.reply.as_ref().map(ToString::to_string).unwrap_or_default();
        let accept = reply.trim_start_matches("kakehi.ctl.");
        let Some(accepted) = self.accepts.get_mut(accept) else {
            return self.fail(format!("a batch of {token} without an accept: {reply}"));
        };
        let credit = accepted.credit;
        let is_again = seq <= accepted.top;
        if !is_again && seq != accepted.top + 1 {
            let top = accepted.top;
            return self.fail(format!("batch {seq} of {token} comes after {top}"));
        }
        accepted.top = accepted.top.max(seq);
        if seq > credit {
            return self.fail(format!("batch {seq} of {token} exceeds the credit of {credit}"));
        }
        if is_again {
            self.reach("a batch again");
        }
        if is_final && seq > 16 {
            self.reach("many batches");
        }
    }

    /// A broker took a message of a client.
    pub(super) fn client_published(&mut self, message: &Message) {
        let inbox = message.reply.as_ref().map(ToString::to_string).unwrap_or_default();
        if message.subject.starts_with("kakehi.ctl.") {
            return;
        }
        match ToNode::read(message.headers.as_ref()) {
            Some(ToNode::Request) => {
                let frame = message.payload.strip_suffix(b"\0").unwrap_or_default();
                let request = serde_json::from_slice::<Request<Command>>(frame);
                if let Some(Command { token }) = request.ok().and_then(|request| request.command) {
                    self.note("ask", token, 0);
                    self.inboxes.insert(inbox, token);
                }
            }
            Some(ToNode::Settle { .. }) => self.reach("a settle"),
            None => {}
        }
    }

    /// A node got a message from its broker.
    pub(super) fn node_gets(&mut self, process: usize, message: &Message) {
        let Some(control) = message.headers.as_ref().and_then(Control::read) else { return };
        let subject = message.subject.to_string();
        let now = self.now;
        let accept = subject.trim_start_matches("kakehi.ctl.");
        let Some(accepted) = self.accepts.get_mut(accept) else { return };
        let token = accepted.token;
        if accepted.process != process {
            return self.fail(format!("control of {accept} comes to process {process}"));
        }
        accepted.credit = accepted.credit.max(control.credit.unwrap_or(0));
        if control.kind == ControlKind::Go {
            accepted.go.get_or_insert(now);
        }
        self.runs[token].controlled = now;
        self.journal.tell(|| format!("{token} gets {control:?}"));
        self.note("control", token, process);
    }
}
