use std::{path::PathBuf, time::Duration};

use super::*;

/// The lines of `text` that have problems, with words that each problem must have.
fn wrong(text: &str, expected: &[(usize, &str)]) {
    let problems = parse(text.as_bytes()).unwrap_err();
    let lines: Vec<_> = problems.iter().map(|problem| problem.line).collect();
    let wanted: Vec<_> = expected.iter().map(|(line, _)| *line).collect();
    assert_eq!(lines, wanted, "{text}: {problems:#?}");
    for (problem, (_, words)) in problems.iter().zip(expected) {
        assert!(problem.text.contains(words), "{text}: {problem:?}, without {words}");
    }
}

#[test]
fn a_job_has_all_values_of_the_file() {
    let text = r#"
[job.backup]
about = "archive /srv"
run = ["env", "true"]
args = ["^[a-z0-9-]{1,32}$", "full|part"]
allow = { users = ["root"], groups = ["root"] }
timeout = "1h 30m"
at_once = 2
when_client_leaves = "finish"
env = { LANG = "C", EMPTY = "" }
cwd = "/tmp"
"#;
    let jobs = parse(text.as_bytes()).unwrap();
    let job = &jobs["backup"];
    assert_eq!((job.name.as_str(), job.about.as_str()), ("backup", "archive /srv"));
    assert!(job.program.is_absolute() && job.program.ends_with("env"), "{:?}", job.program);
    assert_eq!(job.run, ["env", "true"]);
    assert!(job.check(&["daily".into(), "full".into()]).is_ok());
    assert!(job.check(&["daily".into(), "fully".into()]).unwrap_err().contains("full|part"));
    assert!(job.check(&vec!["a".to_owned(); 3]).unwrap_err().contains("at most 2"));
    assert_eq!(job.timeout, Some(Duration::from_secs(5400)));
    assert_eq!((job.at_once, job.finishes), (2, true));
    assert_eq!(job.env.iter().next(), Some((&"EMPTY".into(), &String::new())));
    assert_eq!(job.cwd, PathBuf::from("/tmp"));
}

#[test]
fn an_argument_may_have_a_name_choices_a_default_and_be_required_or_secret() {
    let text = r#"
[job.deploy]
run = ["true"]
args = [
    { name = "target", choices = ["staging", "a.b"], required = true },
    { name = "token", pattern = "[a-z]+", default = "none", secret = true },
]
"#;
    let job = &parse(text.as_bytes()).unwrap()["deploy"];
    let check =
        |args: &[&str]| job.check(&args.iter().map(ToString::to_string).collect::<Vec<_>>());
    assert_eq!(check(&["staging"]).unwrap(), ["staging", "none"]);
    let why = "`deploy` needs argument 1 (target), which must be one of staging, a.b";
    assert_eq!(check(&[]).unwrap_err(), why);
    let why = "argument 1 (target) of `deploy` must be one of staging, a.b";
    assert_eq!(check(&["axb"]).unwrap_err(), why);
    assert_eq!(job.shown(&check(&["staging", "abc"]).unwrap()), ["staging", "***"]);
    wrong(
        "[job.a]\nrun = ['true']\nargs = ['a', { pattern = 'b', required = true },\n\
         { name = 'c' },\n{ pattern = 'd', default = 'x' }]",
        &[
            (3, "job.a.args[1]: an argument before it may be left out"),
            (4, "job.a.args[2]: expected either `pattern` or `choices`"),
            (5, "job.a.args[3].default: expected an allowed value"),
            (5, "job.a.args[3]: an argument before it"),
        ],
    );
}

#[test]
fn the_defaults_of_a_job_are_strict() {
    let jobs = parse(b"job.a.run = ['true']").unwrap();
    let job = &jobs["a"];
    assert_eq!((job.timeout, job.at_once, job.finishes), (None, 1, false));
    assert!(job.env.is_empty());
    assert_eq!(job.cwd, PathBuf::from("/"));
    assert!(job.check(&["any".into()]).is_err());
    assert_eq!(job.allow, crate::jobs::caller::Allow::default());
}

#[test]
fn a_file_without_jobs_and_a_job_without_limit_are_valid() {
    assert!(parse(b"").unwrap().is_empty());
    assert!(parse(b"[job]").unwrap().is_empty());
    let jobs = parse(b"[job.a]\nrun = ['true']\ntimeout = '0'").unwrap();
    assert_eq!(jobs["a"].timeout, None);
}

#[test]
fn each_problem_names_its_line_and_the_expected_value() {
    wrong(
        "[job.a]\nrun = []\nargs = ['[', 7]\ntimeout = 10\nat_once = 0\n\
         when_client_leaves = 'stay'\nenv = { A = 1, 'B=' = '' }\ncwd = 'tmp'\nabout = []\n",
        &[
            (2, "job.a.run: expected a command line"),
            (3, "job.a.args[0]: expected a regular expression, found \"[\": unclosed"),
            (3, "job.a.args[1]: expected a string, found 7"),
            (4, "job.a.timeout: expected a duration such as \"10m\" or \"1h 30m\", found 10"),
            (5, "job.a.at_once: expected a whole number, at least 1, found 0"),
            (6, "job.a.when_client_leaves: expected \"kill\" or \"finish\", found \"stay\""),
            (7, "job.a.env.A: expected a string, found 1"),
            (7, "job.a.env: expected the name of a variable, found \"B=\""),
            (8, "job.a.cwd: expected the absolute path of a folder, found \"tmp\""),
            (9, "job.a.about: expected a text, found an array"),
        ],
    );
}

#[test]
fn a_problem_names_the_value_found() {
    for (found, told) in [
        ("1.5", "found 1.5"),
        ("true", "found true"),
        ("1979-05-27", "found 1979-05-27"),
        ("{ a = 1 }", "found a table"),
        ("[]", "found an array"),
    ] {
        wrong(&format!("[job.a]\nrun = ['true']\nabout = {found}\n"), &[(3, told)]);
    }
    let timeout = "found \"10 parsecs\": unknown time unit";
    wrong("[job.a]\nrun = ['true']\ntimeout = '10 parsecs'\n", &[(3, timeout)]);
}

#[test]
fn a_job_needs_an_existing_program() {
    let words = "expected a program, by its absolute path or by a name that is in PATH";
    wrong(
        "[job.a]\nrun = ['no-such-program']\n[job.b]\nrun = ['/no/such/program']\n\
         [job.c]\nrun = ['./local']\n[job.d]\nrun = ['/etc/passwd']\n[job.e]\nrun = ['']\n\
         [job.f]\nrun = ['sh']\nenv.PATH = '/nowhere'\n[job.g]\nrun = ['/tmp']\n",
        &[2, 4, 6, 8, 10, 12, 15].map(|line| (line, words)),
    );
    wrong("[job.a]\nabout = 'x'\n", &[(1, "job.a.run: expected a command line, found none")]);
    wrong("[job.a]\nrun = 'true'\n", &[(2, "job.a.run: expected a command line")]);
    wrong("[job.a]\nrun = ['true', \"\\u0000\"]\n", &[(2, "job.a.run[1]: expected a string")]);
}

#[test]
fn unknown_keys_users_and_groups_are_problems() {
    wrong(
        "jobs = 1\n[job.a]\nrun = ['true']\ntiemout = '1s'\n[job.a.allow]\nuser = ['root']\n\
         users = ['no-such-user', 0]\ngroups = ['no-such-group']\n[job.b]\nrun = ['true']\nallow = 1\n",
        &[
            (1, "unknown key `jobs`, expected [job.NAME]"),
            (4, "job.a.tiemout: unknown key, expected one of about, run, args"),
            (6, "job.a.allow.user: unknown key, expected `users`, `groups` or `fleet`"),
            (7, "job.a.allow.users[1]: expected a string, found 0"),
            (7, "job.a.allow.users: expected the name of a user here, found \"no-such-user\""),
            (8, "job.a.allow.groups: expected the name of a group here, found \"no-such-group\""),
            (11, "job.b.allow: expected a table with `users`, `groups` or `fleet`, found 1"),
        ],
    );
}

#[test]
fn job_names_are_words_for_a_command_line() {
    for name in ["a", "0", "a-b_c9"] {
        let text = format!("[job.{name}]\nrun = ['true']");
        assert!(parse(text.as_bytes()).unwrap().contains_key(name));
    }
    for name in ["A", "-a", "_a", "\"a b\"", "\"\"", "\"ä\"", "\"a/b\"", "\"a\\u001b\""] {
        wrong(&format!("\n[job.{name}]\nrun = ['true']"), &[(2, "expected lower-case letters")]);
    }
    wrong("[job.\"\\u001b[1m\"]\nx = 1", &[(1, "\\u{1b}[1m"), (1, "[1m.run"), (2, "unknown key")]);
    let shown = parse(b"[job.a]\n\"\\u001b\" = 1").unwrap_err();
    assert!(shown.iter().all(|problem| !problem.text.contains('\u{1b}')), "{shown:?}");
}

#[test]
fn syntax_errors_are_reported_beside_other_problems() {
    wrong(
        "[job.a]\nrun = ['true']\ntimeout = 10m\nat_once = 0\nat_once = 1\n",
        &[(3, "quoted"), (4, "at least 1"), (5, "duplicate key")],
    );
    wrong("[job.a\nrun = ['true']\n", &[(1, "unclosed table"), (2, "unknown key")]);
    // The line that cannot be read may have been meant as `run`.
    wrong("[job.a]\nrun ['true']\n", &[(2, "")]);
    wrong("job = 1\n", &[(1, "job: expected tables, such as [job.backup], found 1")]);
    wrong("job.a = 1\n", &[(1, "job.a: expected a table with `run`, found 1")]);
}

#[test]
fn a_file_that_is_not_utf_8_is_reported_with_its_line() {
    let problems = parse(b"# one\n# two\n# \xff\n").unwrap_err();
    assert_eq!(problems, [Problem { line: 3, text: "expected UTF-8".into() }]);
}

#[test]
fn a_file_is_read_up_to_a_size() {
    let file = tempfile::NamedTempFile::new().unwrap();
    fs::write(&file, "#".repeat(MAX_SIZE)).unwrap();
    assert!(load(file.path()).unwrap().is_empty());
    fs::write(&file, "#".repeat(MAX_SIZE + 1)).unwrap();
    let problems = load(file.path()).unwrap_err();
    assert!(problems[0].ends_with("cannot be read: larger than 1048576 bytes"), "{problems:?}");
    let problems = load(Path::new("/no/such/file")).unwrap_err();
    assert!(problems[0].starts_with("/no/such/file: cannot be read: No such file"), "{problems:?}");
}
