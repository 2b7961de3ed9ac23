//! The program's entry; see the library beside it.

/// The C library's allocator keeps much of what a fill of many small objects leaves behind, and
/// costs a cluster with a million manifests up to half of its reads; see `docs/adr/2026-11-26-jemalloc.md`.
#[global_allocator]
static ALLOCATOR: tikv_jemallocator::Jemalloc = tikv_jemallocator::Jemalloc;

fn main() -> std::process::ExitCode {
    trow::main()
}
