//! Markdown tables of the results.

use std::collections::BTreeMap;

use anyhow::{Context, Result};

use crate::{Opts, abouts, run::Row};

struct Column {
    title: &'static str,
    key: &'static str,
    digits: usize,
    /// Show the ratio to the base contender in the same round.
    ratio: bool,
}

const fn col(title: &'static str, key: &'static str, digits: usize, ratio: bool) -> Column {
    Column { title, key, digits, ratio }
}

const TABLES: &[(&str, &str, &[Column])] = &[
    (
        "w1",
        "W1 unary, sequential, ~100 B",
        &[
            col("p50 us", "p50_us", 1, true),
            col("p99 us", "p99_us", 1, true),
            col("calls/s", "per_s", 0, true),
            col("CPU us/call server", "cpu_server_us", 2, false),
            col("CPU us/call client", "cpu_client_us", 2, false),
        ],
    ),
    (
        "w2",
        "W2 stream: 1 request, 200,000 responses of ~100 B",
        &[
            col("responses/s", "per_s", 0, true),
            col("CPU us/resp server", "cpu_server_us", 2, false),
            col("CPU us/resp client", "cpu_client_us", 2, false),
            col("peak RSS server MiB", "rss_server_mib", 1, false),
            col("peak RSS client MiB", "rss_client_mib", 1, false),
        ],
    ),
    (
        "w3",
        "W3 64 requests in flight on ONE connection",
        &[
            col("calls/s", "per_s", 0, true),
            col("CPU us/call server", "cpu_server_us", 2, false),
            col("CPU us/call client", "cpu_client_us", 2, false),
        ],
    ),
    (
        "w3b",
        "W3b 64 connections, one request in flight on each",
        &[
            col("calls/s", "per_s", 0, true),
            col("CPU us/call server", "cpu_server_us", 2, false),
            col("CPU us/call client", "cpu_client_us", 2, false),
        ],
    ),
    (
        "w4",
        "W4 1 MiB echo (each MiB goes out and comes back)",
        &[
            col("MiB/s", "per_s", 0, true),
            col("first call ms", "first_ms", 1, false),
            col("CPU us/MiB server", "cpu_server_us", 0, false),
            col("CPU us/MiB client", "cpu_client_us", 0, false),
            col("peak RSS server MiB", "rss_server_mib", 1, false),
            col("peak RSS client MiB", "rss_client_mib", 1, false),
        ],
    ),
    (
        "w5",
        "W5 1,000 connections, each used once, idle",
        &[
            col("connect all ms", "connect_ms", 1, true),
            col("first calls ms", "first_calls_ms", 1, true),
            col("server KiB/conn", "server_kib_per_conn", 1, true),
            col("client KiB/conn", "client_kib_per_conn", 1, false),
            col("call beside idle ones us", "call_with_idle_us", 1, true),
        ],
    ),
    (
        "w6",
        "W6 slow reader: the client application stops for 2 s in a stream of 1,000,000",
        &[
            col("server peak RSS MiB", "server_peak_mib", 1, false),
            col("server growth MiB", "server_growth_mib", 1, false),
            col("client growth MiB", "client_growth_mib", 1, false),
            col("other client's call us (-1: blocked)", "other_call_us", 0, false),
        ],
    ),
];

pub fn median(v: &mut [f64]) -> f64 {
    v.sort_by(f64::total_cmp);
    let n = v.len();
    if n % 2 == 1 { v[n / 2] } else { (v[n / 2 - 1] + v[n / 2]) / 2.0 }
}

/// 12345678 -> 12,345,678
fn number(x: f64, digits: usize) -> String {
    let s = format!("{x:.digits$}");
    let (int, frac) = s.split_once('.').map_or((s.as_str(), None), |(i, f)| (i, Some(f)));
    let (sign, int) = int.strip_prefix('-').map_or(("", int), |i| ("-", i));
    let mut out = String::new();
    for (i, c) in int.chars().enumerate() {
        if i > 0 && (int.len() - i) % 3 == 0 {
            out.push(',');
        }
        out.push(c);
    }
    match frac {
        Some(f) => format!("{sign}{out}.{f}"),
        None => format!("{sign}{out}"),
    }
}

pub fn table(opts: &Opts) -> Result<()> {
    let path = opts.get("in").context("--in FILE")?;
    let base = opts.get("base").unwrap_or("raw-tokio");
    let rows: Vec<Row> = std::fs::read_to_string(path)?
        .lines()
        .map(serde_json::from_str)
        .collect::<Result<_, _>>()?;
    let mut groups: BTreeMap<(String, String), Vec<&Row>> = BTreeMap::new();
    for r in &rows {
        groups.entry((r.rt.clone(), r.pin.clone())).or_default().push(r);
    }
    for ((rt, pin), rows) in groups {
        let rounds = rows.iter().map(|r| r.round).max().unwrap_or(0) + 1;
        let mut foreign: Vec<f64> = rows.iter().map(|r| r.foreign * 100.0).collect();
        let mut steal: Vec<f64> = rows.iter().map(|r| r.steal * 100.0).collect();
        let worst = foreign.iter().copied().fold(0.0, f64::max);
        println!(
            "\n## runtime: {rt}, pinning: {pin}, {rounds} rounds\n\n\
             CPU time of others during the runs: median {:.1} %, worst {worst:.0} %; stolen by the \
             hypervisor: median {:.1} %. Cells: median (min–max); ×: median of the ratios to \
             {base} in the same round.",
            median(&mut foreign),
            median(&mut steal),
        );
        for (workload, title, columns) in TABLES {
            let rows: Vec<&&Row> = rows.iter().filter(|r| r.workload == *workload).collect();
            if rows.is_empty() {
                continue;
            }
            println!("\n### {title}\n");
            let titles: Vec<&str> = columns.iter().map(|c| c.title).collect();
            println!("| contender | {} |", titles.join(" | "));
            println!("|---|{}", "---:|".repeat(columns.len()));
            for about in abouts() {
                let mine: Vec<&&&Row> = rows.iter().filter(|r| r.contender == about.name).collect();
                if mine.is_empty() {
                    continue;
                }
                let cells: Vec<String> =
                    columns.iter().map(|c| cell(c, &mine, &rows, base)).collect();
                println!("| {} | {} |", about.name, cells.join(" | "));
            }
        }
    }
    Ok(())
}

fn cell(c: &Column, mine: &[&&&Row], rows: &[&&Row], base: &str) -> String {
    let mut values: Vec<f64> = mine.iter().filter_map(|r| r.numbers.get(c.key).copied()).collect();
    if values.is_empty() {
        let why = mine.iter().find_map(|r| r.error.as_deref()).unwrap_or("-");
        return if why == "-" { why.into() } else { format!("failed: {why}") };
    }
    let failed = mine.iter().filter(|r| r.error.is_some()).count();
    let mid = median(&mut values);
    let mut s = format!(
        "{} ({}–{})",
        number(mid, c.digits),
        number(values[0], c.digits),
        number(values[values.len() - 1], c.digits)
    );
    if c.ratio {
        let mut ratios: Vec<f64> = mine
            .iter()
            .filter_map(|r| {
                let b = rows.iter().find(|b| b.contender == base && b.round == r.round)?;
                Some(r.numbers.get(c.key)? / b.numbers.get(c.key)?)
            })
            .collect();
        if !ratios.is_empty() {
            s += &format!(" ×{:.2}", median(&mut ratios));
        }
    }
    if failed > 0 {
        s += &format!(" [{failed} failed]");
    }
    s
}
