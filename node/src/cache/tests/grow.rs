//! The reader against the growing file: whatever comes in which pieces, and whoever reads when.

use bytes::Bytes;
use proptest::prelude::*;
use trow_raft::Planted;

use super::cluster::name;
use crate::cache::fill::Fill;
use crate::replicated::tests::harness::content;
use crate::store::Store;

/// What happens to a blob that arrives, and to those who read it.
#[derive(Clone, Debug)]
enum Step {
    /// So many bytes come.
    Come(usize),
    /// They pause: what came is in the file.
    Pause,
    /// A reader of this part of the blob (in 1/1000) begins.
    Begin(usize, usize),
    /// The reader of this number takes what there is, at most so many times.
    Take(usize, usize),
    /// It leaves.
    Leave(usize),
}

fn step() -> impl Strategy<Value = Step> {
    prop_oneof![
        4 => (1..200_000_usize).prop_map(Step::Come),
        2 => Just(Step::Pause),
        2 => (0..1000_usize, 0..1001_usize).prop_map(|(from, to)| Step::Begin(from, to)),
        4 => (any::<usize>(), 1..6_usize).prop_map(|(reader, times)| Step::Take(reader, times)),
        1 => any::<usize>().prop_map(Step::Leave),
    ]
}

async fn run(size: usize, steps: Vec<Step>) {
    let dir = tempfile::tempdir().unwrap();
    let store = Store::open(dir.path(), Planted::NONE).unwrap();
    let bytes: Bytes = content(size as u64, size);
    let digest = trow_raft::Digest::sha256(&bytes);
    let fill = Fill::new(name("app"), digest, size as u64);
    let mut staged = store.stage(None).await.unwrap();
    fill.show_file(staged.reader());
    let (mut came, mut paused) = (0, 0);
    let mut readers = vec![];
    for step in steps {
        match step {
            Step::Come(len) => {
                let end = (came + len).min(size);
                staged.write(bytes.slice(came..end)).await.unwrap();
                came = end;
                fill.show_written(staged.written());
            }
            Step::Pause => {
                staged.flush().await.unwrap();
                paused = came;
                fill.show_written(staged.written());
            }
            Step::Begin(from, to) => {
                let (from, to) = (from * size / 1000, to * size / 1000);
                let range = from.min(to)..from.max(to);
                readers.push((fill.reader(range.start as u64..range.end as u64), range));
            }
            Step::Take(reader, times) if !readers.is_empty() => {
                let at = reader % readers.len();
                let (reader, range) = &mut readers[at];
                for _ in 0..times {
                    // It need not come yet, or is withheld.
                    if reader.at() as usize >= paused.min(size.saturating_sub(64 << 10)).min(range.end)
                        && (reader.at() as usize) < range.end
                    {
                        break;
                    }
                    let Some(got) = reader.next().await.unwrap() else {
                        assert_eq!(reader.at() as usize, range.end);
                        break;
                    };
                    let end = reader.at() as usize;
                    assert!(end <= came && end <= range.end && got == bytes[end - got.len()..end]);
                }
            }
            Step::Leave(reader) if !readers.is_empty() => drop(readers.swap_remove(reader % readers.len())),
            Step::Take(..) | Step::Leave(_) => {}
        }
    }
    // A pause lets every reader have all that came, but for what is withheld.
    staged.flush().await.unwrap();
    fill.show_written(staged.written());
    let open = came.min(size.saturating_sub(64 << 10));
    for (reader, range) in &mut readers {
        while (reader.at() as usize) < open.min(range.end) {
            let got = reader.next().await.unwrap().unwrap();
            let end = reader.at() as usize;
            assert!(end <= open && got == bytes[end - got.len()..end]);
        }
    }
    staged.write(bytes.slice(came..)).await.unwrap();
    assert!(staged.has_digest(&digest).await.unwrap());
    fill.show_written(staged.written());
    fill.verified();
    assert_eq!(staged.keep(&digest).await.unwrap(), size as u64);
    for (reader, range) in &mut readers {
        while let Some(got) = reader.next().await.unwrap() {
            let end = reader.at() as usize;
            assert!(end <= range.end && got == bytes[end - got.len()..end]);
        }
        assert_eq!(reader.at() as usize, range.end.max(range.start));
    }
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 48, failure_persistence: None, ..ProptestConfig::default() })]

    #[test]
    fn readers_see_what_came_in_order_and_nothing_else(
        size in 0..1_500_000_usize,
        steps in proptest::collection::vec(step(), 1..60),
    ) {
        let runtime = tokio::runtime::Builder::new_multi_thread().worker_threads(2).enable_all().build().unwrap();
        runtime.block_on(async { tokio::time::timeout(crate::replicated::tests::harness::BOUND, run(size, steps)).await.unwrap() });
    }
}
