//! The program's entry; see the library beside it.

fn main() -> std::process::ExitCode {
    trow::main()
}
