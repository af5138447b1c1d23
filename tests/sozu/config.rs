//! Settings from Sōzu's own configuration file.

use std::{fs, path::Path, time::Duration};

use kakehi_sozu::{ErrorKind, Outcome, Sozu, SozuBuilder, command::request::RequestType};

use crate::support::{Proxy, add_cluster, binaries, cluster, status, workers};

fn write(folder: &Path, settings: &str) -> std::path::PathBuf {
    let file = folder.join("config.toml");
    fs::write(&file, settings).unwrap();
    file
}

async fn read(folder: &Path, settings: &str) -> SozuBuilder {
    Sozu::from_config(write(folder, settings)).await.unwrap()
}

#[tokio::test]
async fn a_path_is_relative_to_the_file_and_dots_are_resolved() {
    let folder = tempfile::tempdir().unwrap();
    let real = fs::canonicalize(folder.path()).unwrap();
    fs::create_dir(real.join("run")).unwrap();
    for (setting, expected) in [
        ("./sozu.sock", real.join("sozu.sock")),
        ("sozu.sock", real.join("sozu.sock")),
        ("run/sozu.sock", real.join("run/sozu.sock")),
        ("run/../run/sozu.sock", real.join("run/sozu.sock")),
        ("/run/sozu.sock", Path::new("/run/sozu.sock").to_owned()),
    ] {
        let sozu = read(&real, &format!("command_socket = {setting:?}\n")).await.build();
        let found = sozu.path().canonicalize().unwrap_or_else(|_| sozu.path().to_owned());
        assert_eq!(found, expected, "{setting}");
    }
}

#[tokio::test]
async fn what_sozu_would_not_take_is_an_error_that_names_the_file() {
    let folder = tempfile::tempdir().unwrap();
    for settings in [
        "command_socket = 7\n",
        "command_socket = \"nowhere/at/all/sozu.sock\"\n",
        "command_buffer_size = 10\nmax_command_buffer_size = 9\n",
        "not toml",
    ] {
        let file = write(folder.path(), settings);
        let error = Sozu::from_config(&file).await.unwrap_err();
        let text = error.to_string();
        assert!(text.starts_with(&format!("cannot use {}: ", file.display())), "{text}");
    }
}

#[tokio::test(start_paused = true)]
async fn the_deadline_is_longer_than_what_sozu_itself_waits() {
    let folder = tempfile::tempdir().unwrap();
    let _silent = std::os::unix::net::UnixListener::bind(folder.path().join("s")).unwrap();
    for (settings, seconds) in [
        ("", 15),
        ("worker_timeout = 30\n", 35),
        ("worker_timeout = 1\nctl_command_timeout = 9000\n", 9),
    ] {
        let settings = format!("command_socket = \"./s\"\n{settings}");
        let sozu = read(folder.path(), &settings).await.build();
        let start = tokio::time::Instant::now();
        let error = sozu.request(status()).await.unwrap_err();
        assert!(
            error.kind() == ErrorKind::Deadline && error.outcome() == Outcome::Unknown,
            "{error:?}"
        );
        let elapsed = start.elapsed();
        let expected = Duration::from_secs(seconds);
        assert!(
            elapsed >= expected && elapsed < expected + Duration::from_millis(5),
            "{elapsed:?}"
        );
    }
}

#[tokio::test]
async fn a_smaller_maximum_refuses_smaller_frames() {
    let folder = tempfile::tempdir().unwrap();
    let settings = "command_socket = \"./s\"\ncommand_buffer_size = 4096\n\
                    max_command_buffer_size = 10000\n";
    let sozu = read(folder.path(), settings).await.build();
    let _silent = std::os::unix::net::UnixListener::bind(sozu.path()).unwrap();
    let large = RequestType::AddCluster(cluster(&"x".repeat(9_000)));
    assert_eq!(sozu.request(large).await.unwrap_err().kind(), ErrorKind::TooLarge);
    let small = sozu.request(add_cluster("blue")).deadline(Duration::from_millis(50));
    assert!(small.await.unwrap_err().outcome() == Outcome::Unknown);
}

#[tokio::test(flavor = "multi_thread")]
async fn the_file_of_a_running_sozu_leads_to_it() {
    for binary in binaries() {
        let proxy = Proxy::start(&binary).await;
        let builder = Sozu::from_config(proxy.config()).await.unwrap();
        let sozu = builder.connect().await.unwrap();
        assert_eq!(workers(&sozu.request(status()).await.unwrap()).len(), 2);
    }
}
