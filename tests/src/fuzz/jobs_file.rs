//! Fuzzes the reader of jobs files.

use kakehid::read_jobs;
use toml::de::DeTable;

/// Checks that a file is accepted with jobs that can run, or refused with an error for each wrong
/// line, in text that is harmless for a terminal.
///
/// # Panics
/// If the property does not hold.
pub fn jobs_file(data: &[u8]) {
    let text = std::str::from_utf8(data);
    match read_jobs(data) {
        Ok(jobs) => {
            let document = DeTable::parse(text.expect("it is UTF-8")).expect("it is TOML");
            assert!(
                document.get_ref().keys().all(|key| ["job", "fleet"].contains(&&**key.get_ref()))
            );
            for (name, program, run) in jobs {
                let is_word = |c: char| c.is_ascii_lowercase() || c.is_ascii_digit();
                assert!(name.starts_with(is_word), "{name:?}");
                assert!(name.chars().all(|c| is_word(c) || "-_".contains(c)), "{name:?}");
                assert!(program.is_absolute() && program.is_file(), "{}", program.display());
                assert!(!run.is_empty() && run.iter().all(|word| !word.contains('\0')), "{run:?}");
            }
        }
        Err(problems) => {
            assert!(!problems.is_empty(), "a refusal without an error");
            assert!(problems.is_sorted_by_key(|(line, _)| *line), "{problems:?}");
            let lines = data.split(|byte| *byte == b'\n').count();
            for (line, problem) in problems {
                assert!((1..=lines).contains(&line), "{line} of {lines}: {problem}");
                assert!(!problem.contains(char::is_control), "{problem:?}");
            }
        }
    }
}
