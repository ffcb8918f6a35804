//! Who is asked: the gateway that runs, by its admin side, or the cache's file, of one that runs or of one that is dead.

use std::path::{Path, PathBuf};

use super::{Look, Where};
use crate::cli::admin::Admin;
use crate::cli::runtime;
use crate::plan::Process;
use crate::server::Load;

/// Who is asked.
pub(super) enum Source {
    /// A gateway that runs.
    Admin(Admin),
    /// A file.
    File(PathBuf),
}

/// What is named on the command line; else the configuration's admin side; and where it has none, or nobody is there, the file of its
/// cache. The last is said.
///
/// # Errors
/// Where there is neither.
pub(super) fn source(look: &Look) -> Result<Source, String> {
    let Where { config, admin, .. } = &look.place;
    match (&look.file, admin, config) {
        (Some(file), ..) => Ok(Source::File(file.clone())),
        (None, Some(admin), _) => Ok(Source::Admin(Admin::parse(admin)?)),
        (None, None, Some(config)) => of_config(config),
        (None, None, None) => Err(
            "which cache? name its file with `--file FILE`, the gateway's configuration with `--config FILE`, or its admin side with `--admin ADDRESS`"
                .to_owned(),
        ),
    }
}

/// The gateway alone.
///
/// # Errors
/// Where nobody can be asked.
pub(super) fn gateway(place: &Where) -> Result<Admin, String> {
    match (&place.admin, &place.config) {
        (Some(admin), _) => Admin::parse(admin),
        (None, Some(config)) if config.is_file() => Admin::of_config(config),
        (None, Some(config)) => Err(not_a_file(config)),
        (None, None) => Err(
            "which gateway? give its configuration with `--config FILE`, or the admin side with `--admin ADDRESS`".to_owned(),
        ),
    }
}

/// The file alone.
///
/// # Errors
/// Where none is named.
pub(super) fn file(file: Option<&Path>, config: Option<&Path>) -> Result<PathBuf, String> {
    match (file, config) {
        (Some(file), _) => Ok(file.to_owned()),
        (None, Some(config)) => named(config)?.ok_or_else(|| {
            format!(
                "`{}` names no `cache.file`: such a cache lies in the memory of its process, and nobody else can read it",
                config.display()
            )
        }),
        (None, None) => Err(
            "which file? name it with `--file FILE`, or the configuration that does with `--config FILE`".to_owned(),
        ),
    }
}

fn of_config(config: &Path) -> Result<Source, String> {
    let file = named(config)?;
    match (Admin::of_config(config), file) {
        (Ok(admin), Some(file)) if !admin.is_there() => {
            eprintln!("note: nobody answers at `{}`; this is read from `{}`", admin.shown(), file.display());
            Ok(Source::File(file))
        }
        (Ok(admin), _) => Ok(Source::Admin(admin)),
        (Err(_), Some(file)) => Ok(Source::File(file)),
        (Err(why), None) => Err(format!("{why}; and it names no `cache.file` that could be read instead")),
    }
}

/// The cache's file as a configuration names it.
fn named(config: &Path) -> Result<Option<PathBuf>, String> {
    if !config.is_file() {
        return Err(not_a_file(config));
    }
    let runtime = runtime()?;
    let _inside = runtime.enter();
    let loaded = Load::assumed(config, &Process::new());
    let (plan, _) = loaded.map_err(|_| {
        let config = config.display();
        format!(
            "`{config}` has mistakes, so it does not tell where the cache is: `portcullis check {config}` names them; or give `--file` or `--admin`"
        )
    })?;
    Ok(plan.cache.file)
}

fn not_a_file(config: &Path) -> String {
    format!("`{}` is not a file that can be read", config.display())
}
