//! Compares the results of the callers with the records of the handlers.

use std::{
    collections::{BTreeMap, HashMap},
    fs,
    path::Path,
};

/// The records of the handlers for one id.
#[derive(Default)]
struct Run {
    starts: usize,
    end: Option<String>,
}

/// Prints the counts. `false`: a promise was broken.
pub(crate) fn judge(folder: &Path) -> bool {
    let mut runs: HashMap<String, Run> = HashMap::new();
    // When the processes of each node began, in milliseconds.
    let mut ups: HashMap<String, Vec<u128>> = HashMap::new();
    let mut reports = vec![];
    for file in fs::read_dir(folder).unwrap() {
        let file = file.unwrap();
        let name = file.file_name().into_string().unwrap();
        if !name.starts_with("node-") && !name.starts_with("client-") {
            continue;
        }
        for line in fs::read_to_string(file.path()).unwrap().lines() {
            let words: Vec<_> = line.split(' ').map(str::to_owned).collect();
            let id = words[1].clone();
            match (name.starts_with("node-"), words[0].as_str()) {
                (true, "up") => ups.entry(id).or_default().push(words[2].parse().unwrap()),
                (true, "start") => runs.entry(id).or_default().starts += 1,
                (true, end) => runs.entry(id).or_default().end = Some(end.to_owned()),
                (false, _) => reports.push(words),
            }
        }
    }
    let sent: HashMap<String, u128> = reports
        .iter()
        .filter(|words| words[0] == "sent")
        .map(|words| (words[1].clone(), words[2].parse().unwrap()))
        .collect();
    let mut counts: BTreeMap<String, usize> = BTreeMap::new();
    let mut wrong: BTreeMap<&str, Vec<String>> = BTreeMap::new();
    for (id, run) in &runs {
        if run.starts > 1 {
            wrong.entry("runs twice").or_default().push(id.clone());
        }
    }
    for words in &reports {
        let [told, id, node, at] = words.as_slice() else { continue };
        *counts.entry(told.clone()).or_default() += 1;
        let run = runs.get(id);
        let end = run.and_then(|run| run.end.as_deref());
        let has_restarted = || {
            let (from, to) = (sent[id], at.parse::<u128>().unwrap());
            ups.get(node).is_some_and(|ups| ups.iter().any(|up| (from..=to).contains(up)))
        };
        let why = match told.as_str() {
            "ok" if end != Some("ok") => "reported as OK, but did not end with OK",
            "failed" if end == Some("ok") => "reported as failed, but ended with OK",
            "failed" if end != Some("error") => "reported as failed, but did not end with ERROR",
            "notsent" | "refused" if run.is_some() => "reported as not started, but started",
            "unknown" if !has_restarted() => "unknown, but its node did not restart",
            "disorder" | "incomplete" | "nothing" => "lost or repeated output",
            _ => continue,
        };
        wrong.entry(why).or_default().push(id.clone());
    }
    let killed = sent.len() - counts.values().sum::<usize>();
    println!(
        "{} requests sent, {} started: {counts:?}, {killed} of killed clients",
        sent.len(),
        runs.len()
    );
    for why in [
        "runs twice",
        "reported as OK, but did not end with OK",
        "reported as failed, but ended with OK",
        "reported as failed, but did not end with ERROR",
        "reported as not started, but started",
        "unknown, but its node did not restart",
        "lost or repeated output",
    ] {
        let found = wrong.get(why).map_or(&[][..], Vec::as_slice);
        println!(
            "{:>6} {why} {}",
            found.len(),
            found.iter().take(5).cloned().collect::<Vec<_>>().join(" ")
        );
    }
    wrong.is_empty()
}
