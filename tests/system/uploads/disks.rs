//! That nothing of a file is on a disk of the machine that takes it.
//!
//! Three watches, of which each sees what the others do not. The system lets the process write no byte into any file, by whatever
//! name, and ends it if it tries. Where a program puts what it needs for a while, whatever is made or changed is told, also if it
//! is empty and taken away at once. And halfway through a file the process has no file open to write, also none without a name.

use std::collections::HashMap;
use std::fs;
use std::mem::MaybeUninit;
use std::os::fd::OwnedFd;
use std::path::{Path, PathBuf};

use image::ImageFormat;
use reqwest::Method;
use rustix::fs::inotify::{self, CreateFlags, Reader, WatchFlags};
use rustix::io::Errno;
use rustix::process::{Pid, Resource, Rlimit, prlimit};
use serde_json::json;
use somaagent_test_services::clamd::{Clamd, eicar};

use super::external::Elsewhere;
use super::ways::{CHUNK, Sending, Way, arrived};
use super::{Form, noise, sum, upload};
use crate::stack::{Setup, Stack};
use crate::thumbnails::image;

/// What happens in some folders.
struct Watch {
    inotify: OwnedFd,
    folders: HashMap<i32, PathBuf>,
}

impl Watch {
    /// Begins to watch these folders and what is in them.
    fn begin(folders: &[&Path]) -> Self {
        let inotify = inotify::init(CreateFlags::NONBLOCK | CreateFlags::CLOEXEC).unwrap();
        let mut watch = Self { inotify, folders: HashMap::new() };
        for folder in folders {
            watch.add(folder);
        }
        watch
    }

    fn add(&mut self, folder: &Path) {
        let wanted = WatchFlags::CREATE | WatchFlags::MODIFY | WatchFlags::MOVED_TO | WatchFlags::CLOSE_WRITE;
        let id = inotify::add_watch(&self.inotify, folder, wanted).unwrap();
        self.folders.insert(id, folder.to_owned());
        for inner in fs::read_dir(folder).unwrap().map(Result::unwrap).filter(|inner| inner.path().is_dir()) {
            self.add(&inner.path());
        }
    }

    /// What was made or changed.
    fn seen(&self) -> Vec<String> {
        let mut room = [MaybeUninit::uninit(); 4096];
        let (mut events, mut seen) = (Reader::new(&self.inotify, &mut room), Vec::new());
        loop {
            match events.next() {
                Ok(event) => {
                    let folder = self.folders.get(&event.wd()).map(|folder| folder.display().to_string());
                    seen.push(format!("{folder:?} {:?} {:?}", event.file_name(), event.events()));
                }
                Err(Errno::AGAIN) => return seen,
                Err(error) => panic!("{error}"),
            }
        }
    }
}

/// From now on a process cannot write a byte into any file, nor can those that it starts: it is ended if it tries.
fn forbid_to_write(process: u32) {
    let pid = Pid::from_raw(i32::try_from(process).unwrap());
    prlimit(pid, Resource::Fsize, Rlimit { current: Some(0), maximum: Some(0) }).unwrap();
}

/// The files that a process has open to write, also those that have no name any more or never had one.
fn open_to_write(process: u32) -> Vec<String> {
    let of_process = |kind: &str| PathBuf::from(format!("/proc/{process}/{kind}"));
    let mut found = Vec::new();
    for entry in fs::read_dir(of_process("fd")).unwrap().map(Result::unwrap) {
        // Others may be closed meanwhile.
        let Ok(info) = fs::read_to_string(of_process("fdinfo").join(entry.file_name())) else { continue };
        let flags = info.lines().find_map(|line| line.strip_prefix("flags:")).unwrap().trim();
        let is_written = u32::from_str_radix(flags, 8).unwrap() & 3 != 0;
        if is_written && fs::metadata(entry.path()).is_ok_and(|file| file.is_file()) {
            found.push(fs::read_link(entry.path()).unwrap_or_default().display().to_string());
        }
    }
    found
}

/// A system that looks through everything and fetches from this machine, whose passing files belong into `folder`.
fn taking_all(clamd: &Clamd, folder: &Path) -> Setup {
    let (host, port) = clamd.place();
    let setup = Setup::default().set("CLAMAV_ENABLED", true).set("CLAMAV_HOST", host).set("CLAMAV_PORT", port);
    setup
        .set("SA01_ANTIVIRUS__CONNECT_TIMEOUT_MS", 15_000)
        .set("SA01_ANTIVIRUS__FEED_TIMEOUT_MS", 120_000)
        .set("SA01_UPLOADS__INLINE_MAX_MB", 25)
        .set("SA01_UPLOADS__ALLOW_EXTERNAL_REF", true)
        .set("SA01_UPLOADS__EXTERNAL_REF_ALLOWLIST", "127.0.0.1")
        .set("SA01_UPLOADS__EXTERNAL_REF_NETWORKS", "127.0.0.0/8")
        .set("TMPDIR", folder.display())
}

/// The path of the attachment with these bytes.
async fn path_of(stack: &Stack, bytes: &[u8]) -> String {
    let pool = stack.database.pool().await.unwrap();
    let sql = "SELECT '/v1/attachments/' || id FROM attachments WHERE sha256 = $1 AND status = 'clean'";
    sqlx::query_scalar(sql).bind(sum(bytes)).fetch_one(&pool).await.unwrap()
}

/// Fetches a file, and sees that it has these bytes and that no file is open to write while they are on their way.
async fn download(stack: &Stack, path: &str, bytes: &[u8]) {
    let mut answer = stack.client.request(Method::GET, path).send().await.unwrap();
    assert_eq!(answer.status(), 200);
    let mut came = answer.chunk().await.unwrap().unwrap().to_vec();
    assert_eq!(open_to_write(stack.app.id()), [""; 0], "a part of a file is sent");
    while let Some(piece) = answer.chunk().await.unwrap() {
        came.extend(piece);
    }
    assert!(came == bytes, "{path}");
}

#[tokio::test]
async fn nothing_of_a_file_is_written_to_a_disk() {
    let (clamd, there, folder) = (Clamd::start(&[]).unwrap(), Elsewhere::start().await, tempfile::tempdir().unwrap());
    let stack = taking_all(&clamd, folder.path()).start().await;
    let pool = stack.database.pool().await.unwrap();
    let process = stack.app.id();
    let watch = Watch::begin(&[folder.path(), stack.app.binary().home()]);
    forbid_to_write(process);

    let ways = [Way::Form, Way::Tus, Way::Finalized];
    let files: Vec<Vec<u8>> = (0..).map(|seed| noise(20_000_000, 11 + seed)).take(ways.len()).collect();
    let (half, mut begun): (_, Vec<Sending>) = (10_000_000, Vec::new());
    for (way, file) in ways.iter().zip(&files) {
        let mut sending = way.begin(&stack, file.len()).await;
        sending.send(&file[..half]).await;
        begun.push(sending);
    }
    let sent = ways.len() * (half / CHUNK) * CHUNK;
    arrived(&pool, sent).await;
    // It is silent between its halves, and must not be for long.
    let halves = json!({"url": there.url("/halves.bin")});
    let fetching = stack.client.post("/v1/uploads/external", &halves);
    let looking = async {
        arrived(&pool, sent + 2 * CHUNK).await;
        assert_eq!(open_to_write(process), [""; 0], "half of each file is here");
        there.go_on();
    };
    let (fetched, ()) = tokio::join!(fetching, looking);
    let fetched = fetched.unwrap();
    assert_eq!(fetched.status, 200, "{}", fetched.text);
    for (mut sending, file) in begun.into_iter().zip(&files) {
        sending.send(&file[half..]).await;
        sending.end(&stack).await;
    }

    for bytes in files.iter().chain([&noise(2_000_000, 8)]) {
        download(&stack, &path_of(&stack, bytes).await, bytes).await;
    }
    let (photo, infected) = (image(ImageFormat::Jpeg, 1600, 800), eicar());
    let form = Form::default().file("a.jpg", "image/jpeg", &photo).file("a.txt", "text/plain", &infected);
    let sent = upload(&stack.client, form).await;
    assert_eq!(sent.json()[1]["quarantine_reason"], "infected", "{}", sent.text);
    let picture = format!("{}/thumbnail", path_of(&stack, &photo).await);
    let picture = stack.client.request(Method::GET, &picture).send().await.unwrap();
    assert_eq!(picture.status(), 200);
    assert_eq!(watch.seen(), [""; 0]);
}
