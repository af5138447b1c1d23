//! `--group-output`: equal output of nodes once.

use std::collections::BTreeMap;

use kakehi_client::Response;
use kakehi_fleet::Name;

/// How much output of one node is kept, in bytes.
const MAX_NODE: usize = 64 * 1024;

/// The maximum output that is kept of all nodes together, in bytes.
const MAX_ALL: usize = 16 * 1024 * 1024;

/// The output of the nodes.
#[derive(Debug, Default)]
pub(super) struct Groups {
    /// Of nodes that have not ended. Their number is bounded by the batch.
    under_way: BTreeMap<Name, String>,
    ended: BTreeMap<String, Vec<Name>>,
    bytes: usize,
}

impl Groups {
    pub(super) fn progress(&mut self, name: &Name, response: &Response) {
        let output = self.under_way.entry(name.clone()).or_default();
        let is_cut = response
            .content
            .as_ref()
            .is_some_and(|content| content.get("cut") == Some(&true.into()));
        if response.message.is_empty() && response.content.is_none() {
            return;
        }
        push(output, &response.message);
        if !is_cut {
            push(output, "\n");
        }
    }

    /// A node has ended; `last` is shown for one without output.
    pub(super) fn ended(&mut self, name: &Name, last: &str) {
        let mut output = self.under_way.remove(name).unwrap_or_default();
        if output.is_empty() {
            last.clone_into(&mut output);
        }
        if !self.ended.contains_key(&output) {
            if self.bytes + output.len() > MAX_ALL {
                "(too much output to keep)".clone_into(&mut output);
            }
            self.bytes += output.len();
        }
        self.ended.entry(output).or_default().push(name.clone());
    }

    /// Returns each output with its nodes, the one of the most nodes first.
    pub(super) fn into_output(self) -> Vec<(Vec<Name>, String)> {
        let mut output: Vec<_> =
            self.ended.into_iter().map(|(text, nodes)| (nodes, text)).collect();
        for (nodes, _) in &mut output {
            nodes.sort();
        }
        output.sort_by(|a, b| (b.0.len(), &a.0).cmp(&(a.0.len(), &b.0)));
        output
    }
}

fn push(output: &mut String, text: &str) {
    const CUT: &str = "\n(more output is not kept)";
    if output.ends_with(CUT) {
        return;
    }
    if output.len() + text.len() > MAX_NODE {
        output.push_str(CUT);
    } else {
        output.push_str(text);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn equal_output_is_shown_once() {
        let mut groups = Groups::default();
        let name = |text: &str| text.parse::<Name>().unwrap();
        for (node, lines) in [("a", ["1", "2"]), ("c", ["1", "3"]), ("b", ["1", "2"])] {
            for line in lines {
                groups.progress(&name(node), &Response::processing("x", line));
            }
            groups.ended(&name(node), "done");
        }
        groups.ended(&name("d"), "no output");
        let expected = [
            (vec![name("a"), name("b")], "1\n2\n".to_owned()),
            (vec![name("c")], "1\n3\n".to_owned()),
            (vec![name("d")], "no output".to_owned()),
        ];
        assert_eq!(groups.into_output(), expected);
    }

    #[test]
    fn output_is_bounded() {
        let mut groups = Groups::default();
        let large = "x".repeat(1_000);
        for at in 0..400 {
            let name: Name = format!("n-{at}").parse().unwrap();
            groups.progress(&name, &Response::processing("x", at.to_string()));
            for _ in 0..100 {
                groups.progress(&name, &Response::processing("x", &large));
            }
            groups.ended(&name, "");
        }
        assert!(groups.bytes <= MAX_ALL + MAX_NODE, "{}", groups.bytes);
    }
}
