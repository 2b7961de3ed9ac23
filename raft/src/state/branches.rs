//! The inner pages of the file's trees, kept in memory below redb's own pages.
//!
//! redb keeps what was read last, and of a state that is larger than that nearly all of it are
//! leaves that nobody asks for again; each of them pushes out an inner page, which is on the way to
//! some fifty others. Here only inner pages are kept, without the part of them that is not used.
//!
//! Always holds: what is kept of a page is what the file has there, since every write goes through
//! here and to the file; a page that was read while it was written is not kept. Never does: decide
//! by what is in a page anything but whether it is worth keeping.

use std::collections::{HashMap, VecDeque};
use std::io;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use redb::StorageBackend;

/// Bytes of pages that are kept at most.
const LIMIT: usize = 16 << 20;
/// redb's page. Larger ones are leaves with a large row.
const PAGE: u64 = 4096;
/// With what redb begins an inner page. Another page that begins so is kept in vain.
const INNER: u8 = 2;
const SHARDS: u64 = 64;

/// A file whose inner pages are kept.
#[derive(Debug)]
pub(super) struct Branches<B> {
    inner: B,
    shards: Vec<Mutex<Shard>>,
    /// Bytes that a shard keeps at most.
    limit: usize,
}

/// The pages of every so many places.
#[derive(Debug, Default)]
struct Shard {
    pages: HashMap<u64, Page>,
    /// The pages in the order in which they came; some are gone.
    order: VecDeque<(u64, u64)>,
    bytes: usize,
    /// Writes that began or ended, and pages that came: what a page is told apart by from another
    /// one in its place.
    moments: u64,
}

#[derive(Debug)]
struct Page {
    /// Without the zeros at its end.
    bytes: Arc<[u8]>,
    /// Whether it was read since it came, or since it was spared.
    used: bool,
    came: u64,
}

impl<B> Branches<B> {
    pub(super) fn new(inner: B) -> Self {
        Branches::of(inner, LIMIT)
    }

    fn of(inner: B, limit: usize) -> Self {
        let shards = (0..SHARDS).map(|_| Mutex::default()).collect();
        Branches { inner, shards, limit: limit / SHARDS as usize }
    }

    fn shard(&self, offset: u64) -> MutexGuard<'_, Shard> {
        let shard = &self.shards[(offset / PAGE % SHARDS) as usize];
        shard.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// Whether these bytes at this place are an inner page.
fn is_inner(offset: u64, bytes: &[u8]) -> bool {
    is_page(offset, bytes) && bytes[0] == INNER
}

fn is_page(offset: u64, bytes: &[u8]) -> bool {
    offset.is_multiple_of(PAGE) && bytes.len() as u64 == PAGE
}

impl Shard {
    fn get(&mut self, offset: u64) -> Option<Arc<[u8]>> {
        let page = self.pages.get_mut(&offset)?;
        page.used = true;
        Some(page.bytes.clone())
    }

    fn forget(&mut self, offset: u64) {
        self.moments += 1;
        if let Some(page) = self.pages.remove(&offset) {
            self.bytes -= page.bytes.len();
        }
    }

    fn keep(&mut self, offset: u64, bytes: &[u8], limit: usize) {
        self.forget(offset);
        let end = bytes.iter().rposition(|byte| *byte != 0).map_or(0, |last| last + 1);
        let page = Page { bytes: bytes[..end].into(), used: false, came: self.moments };
        self.order.push_back((offset, page.came));
        self.bytes += end;
        self.pages.insert(offset, page);
        // Whoever was asked for since has a second chance, once: all go in the end.
        while self.bytes > limit
            && let Some((offset, came)) = self.order.pop_front()
        {
            match self.pages.get_mut(&offset) {
                Some(page) if page.came != came => {}
                Some(page) if page.used => {
                    page.used = false;
                    self.order.push_back((offset, came));
                }
                Some(page) => {
                    self.bytes -= page.bytes.len();
                    self.pages.remove(&offset);
                }
                None => {}
            }
        }
        // What was written anew has left its place behind.
        if self.order.len() > 2 * self.pages.len() + 64 {
            self.order.retain(|(offset, came)| self.pages.get(offset).is_some_and(|page| page.came == *came));
        }
    }
}

impl<B: StorageBackend> StorageBackend for Branches<B> {
    fn len(&self) -> Result<u64, io::Error> {
        self.inner.len()
    }

    fn read(&self, offset: u64, out: &mut [u8]) -> Result<(), io::Error> {
        if !is_page(offset, out) {
            return self.inner.read(offset, out);
        }
        let (kept, moment) = {
            let mut shard = self.shard(offset);
            (shard.get(offset), shard.moments)
        };
        if let Some(kept) = kept {
            let (begin, end) = out.split_at_mut(kept.len());
            begin.copy_from_slice(&kept);
            end.fill(0);
            return Ok(());
        }
        self.inner.read(offset, out)?;
        if is_inner(offset, out) {
            let mut shard = self.shard(offset);
            if shard.moments == moment {
                shard.keep(offset, out, self.limit);
            }
        }
        Ok(())
    }

    fn set_len(&self, len: u64) -> Result<(), io::Error> {
        let forget_all = || {
            for offset in (0..SHARDS).map(|shard| shard * PAGE) {
                let mut shard = self.shard(offset);
                let moments = shard.moments + 1;
                *shard = Shard { moments, ..Shard::default() };
            }
        };
        // A file that grows keeps what it has.
        let shrinks = len < self.inner.len()?;
        if shrinks {
            forget_all();
        }
        self.inner.set_len(len)?;
        if shrinks {
            forget_all();
        }
        Ok(())
    }

    fn sync_data(&self) -> Result<(), io::Error> {
        self.inner.sync_data()
    }

    fn write(&self, offset: u64, data: &[u8]) -> Result<(), io::Error> {
        let places = || (offset / PAGE..(offset + data.len() as u64).div_ceil(PAGE)).map(|page| page * PAGE);
        // Before, so that nobody is given what was; after, so that nobody keeps what was.
        places().for_each(|place| self.shard(place).forget(place));
        let written = self.inner.write(offset, data);
        if written.is_ok() && is_inner(offset, data) {
            self.shard(offset).keep(offset, data, self.limit);
        } else {
            places().for_each(|place| self.shard(place).forget(place));
        }
        written
    }

    fn close(&self) -> Result<(), io::Error> {
        self.inner.close()
    }
}

#[cfg(test)]
mod tests {
    use std::sync::atomic::{AtomicU64, Ordering};

    use redb::backends::InMemoryBackend;

    use super::*;

    /// Memory that counts how often it is read.
    #[derive(Debug, Default)]
    struct Counting {
        memory: InMemoryBackend,
        reads: AtomicU64,
    }

    impl StorageBackend for Counting {
        fn len(&self) -> Result<u64, io::Error> {
            self.memory.len()
        }
        fn read(&self, offset: u64, out: &mut [u8]) -> Result<(), io::Error> {
            self.reads.fetch_add(1, Ordering::Relaxed);
            self.memory.read(offset, out)
        }
        fn set_len(&self, len: u64) -> Result<(), io::Error> {
            self.memory.set_len(len)
        }
        fn sync_data(&self) -> Result<(), io::Error> {
            self.memory.sync_data()
        }
        fn write(&self, offset: u64, data: &[u8]) -> Result<(), io::Error> {
            self.memory.write(offset, data)
        }
    }

    /// A page that begins with `first`, of which a part is used.
    fn page(first: u8, mark: u8) -> Vec<u8> {
        let mut page = vec![0; PAGE as usize];
        page[0] = first;
        page[1..3000].fill(mark);
        page
    }

    fn file(pages: u64, limit: usize) -> Branches<Counting> {
        let file = Branches::of(Counting::default(), limit);
        file.set_len(pages * PAGE).unwrap();
        file
    }

    fn read<B: StorageBackend>(file: &B, offset: u64, len: usize) -> Vec<u8> {
        let mut out = vec![0xff; len];
        file.read(offset, &mut out).unwrap();
        out
    }

    fn reads(file: &Branches<Counting>) -> u64 {
        file.inner.reads.load(Ordering::Relaxed)
    }

    #[test]
    fn an_inner_page_is_read_from_the_file_once_and_a_leaf_each_time() {
        let file = file(4, LIMIT);
        file.inner.write(PAGE, &page(INNER, 7)).unwrap();
        file.inner.write(2 * PAGE, &page(1, 8)).unwrap();
        for _ in 0..3 {
            assert_eq!(read(&file, PAGE, PAGE as usize), page(INNER, 7));
        }
        assert_eq!(reads(&file), 1);
        for _ in 0..3 {
            assert_eq!(read(&file, 2 * PAGE, PAGE as usize), page(1, 8));
        }
        assert_eq!(reads(&file), 4);
    }

    #[test]
    fn an_inner_page_that_was_written_is_not_read_from_the_file() {
        let file = file(4, LIMIT);
        file.write(PAGE, &page(INNER, 7)).unwrap();
        assert_eq!(read(&file, PAGE, PAGE as usize), page(INNER, 7));
        assert_eq!(reads(&file), 0);
    }

    #[test]
    fn what_is_kept_stays_within_the_limit_and_what_is_asked_for_stays_longest() {
        let limit = SHARDS as usize * 10 * PAGE as usize;
        let file = file(64 * 64, limit);
        // All in one shard, and one of them asked for again and again.
        let offset = |number: u64| number * SHARDS * PAGE;
        for number in 0..60 {
            file.write(offset(number), &page(INNER, number as u8)).unwrap();
            assert!(file.shard(0).bytes <= 10 * PAGE as usize);
            read(&file, 0, PAGE as usize);
        }
        assert_eq!(reads(&file), 0, "it stayed");
        assert!(file.shard(0).pages.len() > 8, "it keeps next to nothing");
        assert!(file.shard(0).order.len() <= 3 * 14 + 64);
    }

    #[test]
    fn whatever_is_written_is_what_is_read() {
        let (file, plain) = (file(32, SHARDS as usize * 2 * PAGE as usize), InMemoryBackend::new());
        plain.set_len(32 * PAGE).unwrap();
        let mut random = 0x2545_f491_4f6c_dd1d_u64;
        let mut next = |below: u64| {
            random ^= random << 13;
            random ^= random >> 7;
            random ^= random << 17;
            random % below
        };
        let mut pages = 32;
        for step in 0..20_000u64 {
            let place = next(pages);
            match next(20) {
                0 => {
                    pages = 16 + next(16);
                    file.set_len(pages * PAGE).unwrap();
                    plain.set_len(pages * PAGE).unwrap();
                }
                // Some that begin within a page, or are longer than one.
                1..4 => {
                    let begin = place * PAGE + next(PAGE);
                    let data = vec![step as u8; next(2 * PAGE).min(pages * PAGE - begin) as usize];
                    file.write(begin, &data).unwrap();
                    plain.write(begin, &data).unwrap();
                }
                4..10 => {
                    let data = page(1 + next(2) as u8, step as u8);
                    file.write(place * PAGE, &data).unwrap();
                    plain.write(place * PAGE, &data).unwrap();
                }
                _ => {
                    let len = (PAGE << next(2)).min((pages - place) * PAGE) as usize;
                    assert_eq!(read(&file, place * PAGE, len), read(&plain, place * PAGE, len), "{step}");
                }
            }
        }
        assert!(reads(&file) > 0);
    }
}
