//! Replays the seeds of the fuzz targets, and checks that each target has all its parts.

#![allow(clippy::unwrap_used, reason = "this is a test")]

use std::{
    fs,
    panic::catch_unwind,
    path::{Path, PathBuf},
};

use kakehi_tests::fuzz::{TARGETS, messages};

/// A file of `fuzz/`.
fn of_fuzz(path: &str) -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("../fuzz").join(path)
}

#[test]
fn each_target_holds_for_all_of_its_seeds() {
    for (name, target) in TARGETS {
        let seeds = fs::read_dir(of_fuzz("seeds").join(name)).unwrap();
        let seeds: Vec<_> = seeds.map(|seed| seed.unwrap().path()).collect();
        assert!(seeds.len() >= 5, "{name} has {} seeds", seeds.len());
        for seed in seeds {
            let bytes = fs::read(&seed).unwrap();
            assert!(catch_unwind(|| target(&bytes)).is_ok(), "{}", seed.display());
        }
    }
}

#[test]
fn each_target_is_built_and_has_a_bug_to_find() {
    let manifest = fs::read_to_string(of_fuzz("Cargo.toml")).unwrap();
    for (name, _) in TARGETS {
        assert!(manifest.contains(&format!("name = \"{name}\"\npath = \"targets/{name}.rs\"")));
        let body = fs::read_to_string(of_fuzz(&format!("targets/{name}.rs"))).unwrap();
        assert!(body.contains(&format!("kakehi_tests::fuzz::{name}(data)")), "{name}");
        assert!(of_fuzz(&format!("planted/{name}.patch")).exists(), "{name} has no planted bug");
    }
    assert_eq!(manifest.matches("[[bin]]").count(), TARGETS.len());
}

#[test]
fn the_messages_of_the_protocols_page_are_what_it_says() {
    let page = fs::read_to_string(of_fuzz("../docs/protocol.md")).unwrap();
    let spans = page.split('`').skip(1).step_by(2);
    let examples: Vec<_> = spans.filter(|span| span.starts_with(r#"{"id":"#)).collect();
    assert!(examples.len() >= 2, "{examples:?}");
    for example in examples {
        messages(example.as_bytes());
        let is_response = example.contains("status");
        let json = kakehi_channel::Json::default;
        let is_read = if is_response {
            use kakehi_channel::{Decode, Response};
            Decode::<Response>::decode(&mut json(), example.as_bytes()).is_ok()
        } else {
            use kakehi_channel::{Decode, Request};
            Decode::<Request>::decode(&mut json(), example.as_bytes()).is_ok()
        };
        assert!(is_read, "{example}");
    }
}
