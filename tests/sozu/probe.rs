//! Probes: which verbs a Sōzu understands, found out without a guess.

use std::{
    fs,
    path::Path,
    process::Command,
    sync::{
        Arc,
        atomic::{AtomicUsize, Ordering::Relaxed},
    },
    time::{Duration, Instant},
};

use kakehi_channel::{Decode, Format};
use kakehi_server::{Answer, Failure, Socket, serve};
use kakehi_sozu::{
    Asked, Context, ErrorKind, ProbeError, Release, Request, Sozu, Support, Wire,
    command::{
        ProtectedHealthCheckPhase, ProtectedHealthCheckReply, UpgradeMain, WorkerInfos,
        request::RequestType, response_content::ContentType,
    },
};
use rustix::process::Signal;
use tempfile::TempDir;
use tokio::{
    io::AsyncReadExt,
    net::UnixListener,
    time::{sleep, timeout},
};

use crate::{
    canonical::guarded,
    support::{PATIENCE, Proxy, binaries, knows, signal, skipped, status, workers},
};

const BUDGET: Duration = Duration::from_secs(1);
/// How much later than the budget a probe may end, on a busy machine.
const SLACK: Duration = Duration::from_secs(2);

/// How a stand-in answers the query of a probe.
#[derive(Clone, Copy)]
enum Manner {
    Confirms,
    ConfirmsLate,
    OtherContent,
    NoContent,
    ProgressForEver,
    ProgressThenFailure,
    Failure,
    Silent,
    /// To the query, and to any other request too.
    SilentToAll,
}

fn start(folder: &TempDir, manner: Manner) -> Sozu {
    let path = folder.path().join("sozu.sock");
    let socket = Socket::bind(&path).listen().unwrap();
    let stand_in = serve(socket, move |asked: Asked, context: Context| async move {
        if let Some(RequestType::ListWorkers(_)) = asked.command {
            if let Manner::SilentToAll = manner {
                return std::future::pending().await;
            }
            let workers = ContentType::Workers(WorkerInfos { vec: vec![] });
            return Ok(Answer::new("none").with_content(workers));
        }
        assert!(matches!(asked.command, Some(RequestType::QueryProtectedHealthCheckSupport(_))));
        answer(manner, context).await
    });
    tokio::spawn(stand_in.into_future());
    Sozu::builder(path).build()
}

async fn answer(manner: Manner, context: Context) -> Result<Answer<ContentType>, Failure> {
    match manner {
        Manner::Confirms => context.progress("asking").await?,
        Manner::ConfirmsLate => sleep(BUDGET * 4 / 5).await,
        Manner::OtherContent => {}
        Manner::NoContent => return Ok(Answer { message: "done".to_owned(), content: None }),
        Manner::ProgressForEver => loop {
            context.progress("asking").await?;
            sleep(BUDGET / 20).await;
        },
        Manner::ProgressThenFailure => {
            context.progress("asking").await?;
            return Err(Failure::new("worker 1 does not know this"));
        }
        Manner::Failure => return Err(Failure::new("busy")),
        Manner::Silent | Manner::SilentToAll => std::future::pending().await,
    }
    let phase = match manner {
        Manner::OtherContent => ProtectedHealthCheckPhase::ProtectedHealthCheckCommit,
        _ => ProtectedHealthCheckPhase::ProtectedHealthCheckCapability,
    };
    let reply = ProtectedHealthCheckReply { phase: phase.into(), ..Default::default() };
    Ok(Answer::new("done").with_content(ContentType::ProtectedHealthCheckReply(reply)))
}

/// The result of a probe of a stand-in, and its duration.
async fn probe(manner: Manner) -> (Result<Support, ProbeError>, Duration) {
    let folder = tempfile::tempdir().unwrap();
    let sozu = start(&folder, manner);
    let start = Instant::now();
    let result = timeout(PATIENCE, sozu.probe(Release::V2_3_2, BUDGET)).await.unwrap();
    assert_eq!(sozu.stats().opened, 0, "the probe used the pool");
    (result, start.elapsed())
}

#[tokio::test]
async fn an_ok_of_all_workers_ends_a_probe_at_once() {
    let (result, elapsed) = probe(Manner::Confirms).await;
    assert_eq!(result.unwrap(), Support::Everywhere);
    assert!(elapsed < BUDGET, "{elapsed:?}");
}

#[tokio::test]
async fn an_answer_that_comes_after_the_other_ones_still_counts() {
    assert_eq!(probe(Manner::ConfirmsLate).await.0.unwrap(), Support::Everywhere);
}

#[tokio::test]
async fn an_ok_with_another_content_does_not_speak_for_the_workers() {
    assert_eq!(probe(Manner::OtherContent).await.0.unwrap(), Support::MainProcess);
    assert_eq!(probe(Manner::NoContent).await.0.unwrap(), Support::MainProcess);
}

#[tokio::test]
async fn progress_tells_of_the_main_process_and_does_not_extend_the_budget() {
    let (result, elapsed) = probe(Manner::ProgressForEver).await;
    assert_eq!(result.unwrap(), Support::MainProcess);
    assert!(elapsed >= BUDGET && elapsed < BUDGET + SLACK, "{elapsed:?}");
}

#[tokio::test]
async fn a_failure_after_progress_tells_of_the_main_process_only() {
    let (result, elapsed) = probe(Manner::ProgressThenFailure).await;
    assert_eq!(result.unwrap(), Support::MainProcess);
    assert!(elapsed < BUDGET, "{elapsed:?}");
}

#[tokio::test]
async fn a_failure_without_progress_is_no_result() {
    let error = probe(Manner::Failure).await.0.unwrap_err();
    assert!(matches!(&error, ProbeError::Refused(response) if response.message == "busy"));
    let text = error.to_string();
    assert!(text.ends_with("it refused the probe: busy"), "{text}");
}

#[tokio::test]
async fn silence_is_missing_support_only_if_other_requests_are_answered() {
    let (result, elapsed) = probe(Manner::Silent).await;
    assert_eq!(result.unwrap(), Support::Missing);
    assert!(elapsed >= BUDGET && elapsed < BUDGET + SLACK, "{elapsed:?}");

    let (result, elapsed) = probe(Manner::SilentToAll).await;
    let error = result.unwrap_err();
    assert!(
        matches!(&error, ProbeError::Failed(error) if error.kind() == ErrorKind::Deadline),
        "{error:?}"
    );
    assert!(elapsed >= BUDGET && elapsed < BUDGET + SLACK, "{elapsed:?}");
}

/// Accepts connections, and returns how many of them the client has closed.
fn silent_listener(path: &Path) -> Arc<AtomicUsize> {
    let listener = UnixListener::bind(path).unwrap();
    let closed = Arc::new(AtomicUsize::new(0));
    let count = Arc::clone(&closed);
    tokio::spawn(async move {
        loop {
            let (mut stream, _) = listener.accept().await.unwrap();
            let count = Arc::clone(&count);
            tokio::spawn(async move {
                let mut bytes = vec![];
                stream.read_to_end(&mut bytes).await.unwrap();
                assert!(!bytes.is_empty());
                count.fetch_add(1, Relaxed);
            });
        }
    });
    closed
}

#[tokio::test]
async fn the_connections_of_a_probe_are_closed_with_it() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("sozu.sock");
    let closed = silent_listener(&path);
    let sozu = Sozu::builder(&path).build();
    sozu.probe(Release::V2_3_0, BUDGET).await.unwrap_err();
    let start = Instant::now();
    while closed.load(Relaxed) != 2 {
        assert!(start.elapsed() < PATIENCE, "{closed:?}");
        sleep(Duration::from_millis(5)).await;
    }
}

#[tokio::test]
async fn a_lost_connection_is_no_result() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("sozu.sock");
    let listener = UnixListener::bind(&path).unwrap();
    tokio::spawn(async move {
        let (mut stream, _) = listener.accept().await.unwrap();
        stream.read_exact(&mut [0; 11]).await.unwrap();
    });
    let error = Sozu::builder(&path).build().probe(Release::V2_3_2, BUDGET).await.unwrap_err();
    assert!(
        matches!(&error, ProbeError::Failed(error) if error.kind() == ErrorKind::Disconnected),
        "{error:?}"
    );
}

#[tokio::test]
async fn silence_is_no_result_if_the_other_requests_fail() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("sozu.sock");
    let listener = UnixListener::bind(&path).unwrap();
    tokio::spawn(async move {
        let _silent = listener.accept().await.unwrap();
        loop {
            drop(listener.accept().await.unwrap());
        }
    });
    let start = Instant::now();
    let error = Sozu::builder(&path).build().probe(Release::V2_3_2, BUDGET).await.unwrap_err();
    assert!(start.elapsed() >= BUDGET, "the query still had time to be answered");
    assert!(
        matches!(&error, ProbeError::Failed(error) if error.kind() == ErrorKind::Disconnected),
        "{error:?}"
    );
}

#[test]
fn each_verb_belongs_to_the_release_that_added_it() {
    for tag in 1..=76_u16 {
        // Skipped in the protocol, or not known to the library.
        let is_unused = matches!(tag, 3 | 32..=34 | 76);
        let is_number = matches!(tag, 9 | 41 | 50 | 60 | 62);
        let key = (tag << 3) | if is_number { 0 } else { 2 };
        let key = if key < 0x80 {
            vec![u8::try_from(key).unwrap()]
        } else {
            vec![u8::try_from(key & 0x7f).unwrap() | 0x80, u8::try_from(key >> 7).unwrap()]
        };
        let payload = [key.as_slice(), &[0]].concat();
        let frame = [&(8 + payload.len() as u64).to_le_bytes()[..], &payload].concat();
        let found = Wire.find(&frame, 100).unwrap().unwrap();
        let asked: Asked = Wire.decode(&frame[found.payload]).unwrap();
        assert_eq!(asked.command.is_none(), is_unused, "{tag}");
        let Some(command) = asked.command else { continue };
        // Of an empty payload, the canonical verb is the older one.
        let has_older = matches!(tag, 63 | 64 | 66..=72);
        let expected = match tag {
            _ if has_older => Release::V2_1_0,
            ..=59 => Release::V2_1_0,
            60..=64 => Release::V2_3_0,
            _ => Release::V2_3_2,
        };
        assert_eq!(Request::from(command).release(), Some(expected), "{tag}");
    }
    for (older, newer) in guarded() {
        let expected = match newer {
            RequestType::AddHttpsListenerWithClientAuth(_)
            | RequestType::UpdateHttpsListenerWithClientAuth(_) => Release::V2_3_0,
            _ => Release::V2_3_2,
        };
        assert_eq!(Request::from(older).release(), Some(expected));
    }
    let empty = kakehi_sozu::command::Request { request_type: None };
    assert_eq!(Request::from(empty).release(), None);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_probe_finds_out_which_verbs_a_real_sozu_understands() {
    for binary in binaries() {
        let proxy = Proxy::start(&binary).await;
        let sozu = proxy.connect().await;
        for release in [Release::V2_1_0, Release::V2_3_0, Release::V2_3_2] {
            let expected =
                if proxy.knows(release) { Support::Everywhere } else { Support::Missing };
            assert_eq!(sozu.probe(release, 2 * BUDGET).await.unwrap(), expected, "{release}");
        }
        assert_eq!(workers(&sozu.request(status()).await.unwrap()).len(), 2);
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_stopped_worker_or_main_process_of_a_real_sozu_does_not_mislead_a_probe() {
    for binary in binaries() {
        let proxy = Proxy::start(&binary).await;
        let sozu = proxy.connect().await;
        let worker = workers(&sozu.request(status()).await.unwrap())[0];
        signal(worker.pid, Signal::STOP);
        let main_only = sozu.probe(Release::V2_1_0, BUDGET).await.unwrap();
        assert_eq!(main_only, Support::MainProcess);
        signal(worker.pid, Signal::CONT);

        signal(proxy.main_pid(), Signal::STOP);
        let error = sozu.probe(Release::V2_3_2, BUDGET).await.unwrap_err();
        signal(proxy.main_pid(), Signal::CONT);
        assert!(
            matches!(&error, ProbeError::Failed(error) if error.kind() == ErrorKind::Deadline),
            "{error:?}"
        );
    }
}

/// Copies a program. Not by this process: a file that it writes would be open in a program that
/// another test starts meanwhile, and then cannot be executed.
fn copy(from: &Path, to: &Path) {
    assert!(Command::new("cp").args([from, to]).status().unwrap().success());
}

#[tokio::test(flavor = "multi_thread")]
async fn after_an_upgrade_of_the_main_process_a_probe_tells_of_the_old_workers_until_they_are_upgraded()
 {
    let (newer, older): (Vec<_>, Vec<_>) =
        binaries().into_iter().partition(|binary| knows(binary, Release::V2_3_2));
    let Some(newest) = newer.last().filter(|_| !older.is_empty()) else {
        return skipped("a test needs sozu programs before and after 2.3.2, which are not here");
    };
    for binary in older {
        let folder = tempfile::tempdir().unwrap();
        let program = folder.path().join("sozu");
        copy(&binary, &program);
        let proxy = Proxy::start(&program).await;
        let sozu = proxy.connect().await;
        assert_eq!(sozu.probe(Release::V2_3_2, BUDGET).await.unwrap(), Support::Missing);

        // An upgrade starts the program that is now at the path.
        let replacement = folder.path().join("newest");
        copy(newest, &replacement);
        fs::rename(replacement, &program).unwrap();
        let upgrade = RequestType::UpgradeMain(UpgradeMain {});
        sozu.request(upgrade).deadline(PATIENCE).await.unwrap();
        proxy.answers().await;
        assert_eq!(sozu.probe(Release::V2_1_0, BUDGET).await.unwrap(), Support::Everywhere);
        assert_eq!(sozu.probe(Release::V2_3_2, BUDGET).await.unwrap(), Support::MainProcess);

        for worker in workers(&sozu.request(status()).await.unwrap()) {
            let upgrade = RequestType::UpgradeWorker(worker.id);
            sozu.request(upgrade).deadline(PATIENCE).await.unwrap();
        }
        assert_eq!(sozu.probe(Release::V2_3_2, BUDGET).await.unwrap(), Support::Everywhere);
    }
}
