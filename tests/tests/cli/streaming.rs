//! Many lines fast, and few lines at once.

use std::{
    io::{BufRead, BufReader},
    process::Stdio,
    time::{Duration, Instant},
};

use crate::support::Jobs;

#[test]
fn many_lines_arrive_complete_and_in_order() {
    let jobs = Jobs::start();
    let output = jobs.client(&["run", "lines"]).output().unwrap();
    assert!(output.status.success());
    let text = String::from_utf8(output.stdout).unwrap();
    let numbers = text.lines().map(|line| line.parse::<u32>().unwrap());
    assert!(numbers.eq(1..=200_000), "{} bytes", text.len());
}

#[test]
fn each_line_is_there_as_soon_as_the_job_has_written_it() {
    let jobs = Jobs::start();
    let mut child =
        jobs.client(&["run", "slow"]).stdout(Stdio::piped()).stderr(Stdio::null()).spawn().unwrap();
    let start = Instant::now();
    let lines = BufReader::new(child.stdout.take().unwrap()).lines();
    let times: Vec<_> = lines.map(|line| (line.unwrap(), start.elapsed())).collect();
    assert!(child.wait().unwrap().success());
    assert_eq!(times.len(), 3);
    for (number, (line, time)) in (0_u32..).zip(&times) {
        assert_eq!(line, &(number + 1).to_string());
        // They are 300 ms apart.
        let spread = times[2].1.saturating_sub(*time);
        assert!(spread >= Duration::from_millis(200) * (2 - number), "{times:?}");
    }
}

#[test]
fn a_slow_reader_gets_everything() {
    let jobs = Jobs::start();
    let mut child = jobs
        .client(&["run", "lines"])
        .stdout(Stdio::piped())
        .stderr(Stdio::null())
        .spawn()
        .unwrap();
    std::thread::sleep(Duration::from_millis(500));
    let lines = BufReader::new(child.stdout.take().unwrap()).lines();
    let mut count = 0;
    for (number, line) in (1..).zip(lines) {
        assert_eq!(line.unwrap(), number.to_string());
        if number % 50_000 == 0 {
            std::thread::sleep(Duration::from_millis(200));
        }
        count = number;
    }
    assert_eq!(count, 200_000);
    assert!(child.wait().unwrap().success());
}
