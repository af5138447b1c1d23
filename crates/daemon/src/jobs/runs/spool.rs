//! The kept output of a run: a folder of segments, of which the oldest are removed.

use std::{
    collections::VecDeque,
    fs::{self, DirBuilder, File, OpenOptions},
    io::{self, Write},
    os::unix::fs::{DirBuilderExt, FileExt, OpenOptionsExt},
    path::{Path, PathBuf},
};

use crate::jobs::chunk::Chunk;

/// A segment has this share of the bound; one more may exist, which is being filled.
const SHARE: u64 = 4;
/// How much a reader reads at once, in bytes.
const READ: usize = 256 * 1024;

/// Writes the output of a run. All methods block.
#[derive(Debug)]
pub(crate) struct Spool {
    folder: PathBuf,
    /// The maximum size of the kept output, in bytes.
    bound: u64,
    /// The numbers of the first chunks of the segments, in order.
    segments: VecDeque<u64>,
    file: Option<File>,
    length: u64,
    buffer: Vec<u8>,
}

impl Spool {
    /// Creates the folder of a run, which must not exist.
    ///
    /// # Errors
    /// The error of the system.
    pub(crate) fn create(folder: PathBuf, bound: u64) -> io::Result<Self> {
        DirBuilder::new().mode(0o700).create(&folder)?;
        let segments = VecDeque::new();
        Ok(Self { folder, bound, segments, file: None, length: 0, buffer: vec![] })
    }

    /// Appends chunks, and removes the segments beyond the bound.
    ///
    /// # Errors
    /// The error of the system. The spool cannot be used after it.
    pub(crate) fn append(&mut self, chunks: &[Chunk]) -> io::Result<()> {
        self.buffer.clear();
        for chunk in chunks {
            if self.file.is_none() || self.length >= self.bound / SHARE {
                self.write()?;
                self.begin(chunk.number)?;
            }
            let before = self.buffer.len();
            chunk.encode(&mut self.buffer);
            self.length += (self.buffer.len() - before) as u64;
        }
        self.write()
    }

    /// Begins a segment, of which `number` is the first chunk.
    fn begin(&mut self, number: u64) -> io::Result<()> {
        let path = self.folder.join(name(number));
        let mut options = OpenOptions::new();
        self.file = Some(options.append(true).create_new(true).mode(0o600).open(path)?);
        self.length = 0;
        self.segments.push_back(number);
        self.remove_oldest()
    }

    /// Writes the encoded chunks.
    fn write(&mut self) -> io::Result<()> {
        if let Some(file) = &mut self.file {
            file.write_all(&self.buffer)?;
        }
        self.buffer.clear();
        Ok(())
    }

    fn remove_oldest(&mut self) -> io::Result<()> {
        while self.segments.len() as u64 > SHARE + 1 {
            if let Some(oldest) = self.segments.pop_front() {
                fs::remove_file(self.folder.join(name(oldest)))?;
            }
        }
        Ok(())
    }
}

/// Reads the output of a run, also while it is written. All methods block.
#[derive(Debug)]
pub(crate) struct SpoolReader {
    folder: PathBuf,
    /// The open segment, and the number of its first chunk.
    segment: Option<(u64, File)>,
    offset: u64,
}

impl SpoolReader {
    pub(crate) fn new(folder: PathBuf) -> Self {
        Self { folder, segment: None, offset: 0 }
    }

    /// Reads some of the chunks from number `next` on. If some of them are no longer kept, starts at
    /// the oldest one that is. Returns none at the end.
    ///
    /// # Errors
    /// The error of the system.
    pub(crate) fn read(&mut self, next: u64) -> io::Result<Vec<Chunk>> {
        loop {
            let Some((first, file)) = &self.segment else {
                if !self.open(next)? {
                    return Ok(vec![]);
                }
                continue;
            };
            let first = *first;
            let chunks = read_chunks(file, &mut self.offset)?;
            if chunks.is_empty() {
                // The segment is complete only if there is a later one.
                match self.segment_after(first)? {
                    Some(later) => self.open_segment(later)?,
                    None => return Ok(vec![]),
                }
                continue;
            }
            let chunks: Vec<_> = chunks.into_iter().filter(|chunk| chunk.number >= next).collect();
            if !chunks.is_empty() {
                return Ok(chunks);
            }
        }
    }

    fn open(&mut self, next: u64) -> io::Result<bool> {
        let segments = segments(&self.folder)?;
        let before = segments.iter().rev().find(|first| **first <= next);
        let Some(first) = before.or(segments.first()) else { return Ok(false) };
        self.open_segment(*first)?;
        Ok(self.segment.is_some())
    }

    fn segment_after(&self, first: u64) -> io::Result<Option<u64>> {
        Ok(segments(&self.folder)?.into_iter().find(|other| *other > first))
    }

    fn open_segment(&mut self, first: u64) -> io::Result<()> {
        self.offset = 0;
        self.segment = match File::open(self.folder.join(name(first))) {
            Ok(file) => Some((first, file)),
            // Removed meanwhile, as the oldest one.
            Err(error) if error.kind() == io::ErrorKind::NotFound => None,
            Err(error) => return Err(error),
        };
        Ok(())
    }
}

/// Reads complete chunks from `offset` on, and moves it behind them.
fn read_chunks(file: &File, offset: &mut u64) -> io::Result<Vec<Chunk>> {
    let mut buffer = vec![0; READ];
    let mut filled = 0;
    while let Some(space) = buffer.get_mut(filled..).filter(|space| !space.is_empty()) {
        match file.read_at(space, *offset + filled as u64) {
            Ok(0) => break,
            Ok(count) => filled += count,
            Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
            Err(error) => return Err(error),
        }
    }
    buffer.truncate(filled);
    let (mut chunks, mut rest) = (vec![], &*buffer);
    while let Some((chunk, length)) = Chunk::decode(rest) {
        chunks.push(chunk);
        *offset += length as u64;
        rest = rest.get(length..).unwrap_or_default();
    }
    Ok(chunks)
}

/// Returns the numbers of the first chunks of all segments, in order.
fn segments(folder: &Path) -> io::Result<Vec<u64>> {
    let mut segments = vec![];
    let entries = match fs::read_dir(folder) {
        Ok(entries) => entries,
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(segments),
        Err(error) => return Err(error),
    };
    for entry in entries {
        let name = entry?.file_name();
        segments.extend(name.to_str().and_then(|name| u64::from_str_radix(name, 16).ok()));
    }
    segments.sort_unstable();
    Ok(segments)
}

fn name(first: u64) -> String {
    format!("{first:016x}")
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::jobs::chunk::{End, HEADER, Stream};

    fn chunk(number: u64, length: usize) -> Chunk {
        Chunk {
            number,
            at_ms: 0,
            stream: Stream::Stdout,
            line: number + 1,
            part: 0,
            end: End::Newline,
            bytes: vec![b'\n'; length].into(),
        }
    }

    fn numbers(reader: &mut SpoolReader, mut next: u64) -> Vec<u64> {
        let mut numbers = vec![];
        loop {
            let chunks = reader.read(next).unwrap();
            let Some(last) = chunks.last() else { return numbers };
            next = last.number + 1;
            numbers.extend(chunks.iter().map(|chunk| chunk.number));
        }
    }

    #[test]
    fn at_least_the_bound_is_kept_and_at_most_a_quarter_more() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("run");
        let (bound, each) = (4000, 100 - HEADER);
        let mut spool = Spool::create(path.clone(), bound).unwrap();
        for number in 0..1000 {
            spool.append(&[chunk(number, each)]).unwrap();
            let kept = numbers(&mut SpoolReader::new(path.clone()), 0);
            assert_eq!(kept.last(), Some(&number));
            assert!(kept.windows(2).all(|pair| pair[0] + 1 == pair[1]));
            assert!(kept.len() as u64 >= (number + 1).min(bound / 100), "{}", kept.len());
            assert!(kept.len() as u64 <= bound / 100 * 5 / 4, "{}", kept.len());
        }
    }

    /// How often this thread has called `write`.
    fn writes() -> u64 {
        let counts = fs::read_to_string("/proc/thread-self/io").unwrap();
        let count = counts.lines().find_map(|line| line.strip_prefix("syscw: "));
        count.unwrap().parse().unwrap()
    }

    #[test]
    fn many_chunks_are_one_write() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("run");
        let mut spool = Spool::create(path.clone(), 1 << 20).unwrap();
        let chunks: Vec<_> = (0..100).map(|number| chunk(number, 1000)).collect();
        let before = writes();
        spool.append(&chunks).unwrap();
        assert_eq!(writes() - before, 1);
        assert_eq!(SpoolReader::new(path).read(0).unwrap(), chunks);
    }

    #[test]
    fn a_reader_follows_the_writer_and_skips_what_is_no_longer_kept() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("run");
        let mut spool = Spool::create(path.clone(), 400).unwrap();
        let mut reader = SpoolReader::new(path.clone());
        assert_eq!(reader.read(0).unwrap(), []);
        spool.append(&[chunk(0, 10)]).unwrap();
        assert_eq!(numbers(&mut reader, 0), [0]);
        (1..4).for_each(|number| spool.append(&[chunk(number, 10)]).unwrap());
        assert_eq!(numbers(&mut reader, 1), [1, 2, 3]);
        (4..100).for_each(|number| spool.append(&[chunk(number, 10)]).unwrap());
        let rest = numbers(&mut reader, 4);
        assert!(rest.len() < 50 && rest.last() == Some(&99), "{rest:?}");
        assert_eq!(numbers(&mut SpoolReader::new(path), 98), [98, 99]);
    }

    #[test]
    fn a_chunk_that_was_cut_by_a_crash_ends_the_output() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("run");
        let mut spool = Spool::create(path.clone(), 4000).unwrap();
        (0..2).for_each(|number| spool.append(&[chunk(number, 10)]).unwrap());
        let file = path.join(name(0));
        let bytes = fs::read(&file).unwrap();
        fs::write(&file, &bytes[..bytes.len() - 1]).unwrap();
        assert_eq!(numbers(&mut SpoolReader::new(path), 0), [0]);
    }
}
