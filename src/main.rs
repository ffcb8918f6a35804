//! Arguments in, exit code out.

/// Measured against the system's: an eighth less CPU per request that goes upstream (`benches/README.md`). Chosen by the program,
/// not by the library, so that who embeds that chooses for himself.
#[global_allocator]
static ALLOCATOR: mimalloc::MiMalloc = mimalloc::MiMalloc;

fn main() -> std::process::ExitCode {
    portcullis::cli::main()
}
