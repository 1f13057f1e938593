//! Volumes on the node itself: emptyDir and hostPath, tmpfs mounts, and the group that owns a pod's volumes.

use nix::mount::{MntFlags, MsFlags, mount, umount2};
use std::ffi::CString;
use std::fs;
use std::io;
use std::os::unix::fs::{FileTypeExt as _, MetadataExt as _, PermissionsExt as _, lchown};
use std::path::{Path, PathBuf};

/// Whether something is mounted at the path.
pub(crate) fn is_mount_point(path: &Path) -> bool {
    let Some(parent) = path.parent() else { return true };
    match (fs::symlink_metadata(path), fs::symlink_metadata(parent)) {
        (Ok(own), Ok(above)) => own.dev() != above.dev() || mounted_at(path),
        _ => false,
    }
}

fn mounted_at(path: &Path) -> bool {
    mount_points().is_ok_and(|all| all.iter().any(|m| m == path))
}

/// All mount points of the process's mount namespace.
pub(crate) fn mount_points() -> io::Result<Vec<PathBuf>> {
    let text = fs::read_to_string("/proc/self/mountinfo")?;
    Ok(text
        .lines()
        .filter_map(|l| l.split(' ').nth(4))
        .map(|p| PathBuf::from(unescape(p)))
        .collect())
}

/// Undoes the octal escapes of mountinfo.
fn unescape(text: &str) -> String {
    let mut out = Vec::new();
    let bytes = text.as_bytes();
    let mut at = 0;
    while let Some(byte) = bytes.get(at) {
        let octal = bytes.get(at + 1..at + 4).filter(|_| *byte == b'\\');
        match octal
            .and_then(|o| std::str::from_utf8(o).ok())
            .and_then(|o| u8::from_str_radix(o, 8).ok())
        {
            Some(value) => {
                out.push(value);
                at += 4;
            }
            None => {
                out.push(*byte);
                at += 1;
            }
        }
    }
    String::from_utf8_lossy(&out).into_owned()
}

/// Mounts a tmpfs unless one is there.
pub(crate) fn mount_tmpfs(path: &Path, size: Option<i64>, mode: u32) -> io::Result<()> {
    if is_mount_point(path) {
        return Ok(());
    }
    let mut options = format!("mode={mode:o}");
    if let Some(size) = size.filter(|s| *s > 0) {
        options.push_str(&format!(",size={size}"));
    }
    mount(
        Some("tmpfs"),
        path,
        Some("tmpfs"),
        MsFlags::empty(),
        Some(options.as_str()),
    )
    .map_err(io::Error::from)
}

/// Unmounts whatever is mounted at the path.
pub(crate) fn unmount(path: &Path) -> io::Result<()> {
    while is_mount_point(path) {
        umount2(path, MntFlags::UMOUNT_NOFOLLOW)
            .or_else(|_| umount2(path, MntFlags::MNT_DETACH))
            .map_err(io::Error::from)?;
    }
    Ok(())
}

/// Makes an emptyDir.
pub(crate) fn empty_dir(path: &Path, in_memory: bool, size: Option<i64>) -> io::Result<()> {
    if in_memory {
        fs::create_dir_all(path)?;
        mount_tmpfs(path, size, 0o777)?;
    } else if !path.is_dir() {
        fs::create_dir_all(path)?;
    } else {
        return Ok(());
    }
    if fs::metadata(path)?.permissions().mode() & 0o1777 != 0o777 {
        fs::set_permissions(path, fs::Permissions::from_mode(0o777))?;
    }
    Ok(())
}

/// Checks a hostPath against its type, and makes what `...OrCreate` asks for.
pub(crate) fn host_path(path: &Path, kind: &str) -> Result<(), String> {
    let shown = path.display();
    let found = fs::metadata(path);
    let is = |test: fn(&fs::Metadata) -> bool, what: &str| match &found {
        Ok(meta) if test(meta) => Ok(()),
        _ => Err(format!("hostPath type check failed: {shown} is not a {what}")),
    };
    match kind {
        "" => Ok(()),
        "Directory" => is(fs::Metadata::is_dir, "directory"),
        "File" => is(fs::Metadata::is_file, "file"),
        "Socket" => is(|m| m.file_type().is_socket(), "socket file"),
        "CharDevice" => is(|m| m.file_type().is_char_device(), "character device"),
        "BlockDevice" => is(|m| m.file_type().is_block_device(), "block device"),
        "DirectoryOrCreate" if found.is_err() => fs::create_dir_all(path)
            .and_then(|()| fs::set_permissions(path, fs::Permissions::from_mode(0o755)))
            .map_err(|e| format!("making the hostPath directory {shown}: {e}")),
        "DirectoryOrCreate" => is(fs::Metadata::is_dir, "directory"),
        "FileOrCreate" if found.is_err() => fs::OpenOptions::new()
            .create(true)
            .append(true)
            .open(path)
            .map(|_| ())
            .map_err(|e| format!("making the hostPath file {shown}: {e}")),
        "FileOrCreate" => is(fs::Metadata::is_file, "file"),
        other => Err(format!("hostPath {shown} has the unknown type {other:?}")),
    }
}

/// Gives a volume to a group: owner group, read and write for it, and set-group-id on folders. With `on_root_mismatch` only
/// when the volume's root isn't so yet.
pub(crate) fn own_by_group(
    path: &Path,
    group: u32,
    read_only: bool,
    on_root_mismatch: bool,
) -> io::Result<()> {
    let root = fs::symlink_metadata(path)?;
    let (file_mask, dir_mask) = if read_only {
        (0o440, 0o2550)
    } else {
        (0o660, 0o2770)
    };
    if on_root_mismatch && root.gid() == group && root.mode() & dir_mask == dir_mask {
        return Ok(());
    }
    let mut queue = vec![path.to_owned()];
    while let Some(at) = queue.pop() {
        let meta = fs::symlink_metadata(&at)?;
        if meta.gid() != group {
            lchown(&at, None, Some(group))?;
        }
        if meta.file_type().is_symlink() {
            continue;
        }
        let mask = if meta.is_dir() { dir_mask } else { file_mask };
        let wanted = (meta.mode() & 0o7777) | mask;
        if wanted != meta.mode() & 0o7777 {
            fs::set_permissions(&at, fs::Permissions::from_mode(wanted))?;
        }
        if meta.is_dir() {
            for entry in fs::read_dir(&at)? {
                queue.push(entry?.path());
            }
        }
    }
    Ok(())
}

/// Binds one path over another so that the target can't be exchanged under way.
pub(crate) fn bind(source: &Path, target: &Path) -> io::Result<()> {
    mount(Some(source), target, None::<&str>, MsFlags::MS_BIND, None::<&str>).map_err(io::Error::from)
}

/// Bytes and inodes on the file system that holds a path: (total, free to us, inodes, free inodes).
pub(crate) fn fs_space(path: &Path) -> io::Result<(u64, u64, u64, u64)> {
    use std::os::unix::ffi::OsStrExt as _;
    let _ = CString::new(path.as_os_str().as_bytes())?;
    let stat = nix::sys::statvfs::statvfs(path).map_err(io::Error::from)?;
    let unit = stat.fragment_size();
    Ok((
        stat.blocks() * unit,
        stat.blocks_available() * unit,
        stat.files(),
        stat.files_available(),
    ))
}
