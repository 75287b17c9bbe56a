//! Messages as files.

use std::{
    fs::{self, File},
    io::{ErrorKind, Read, Seek, SeekFrom, Write},
    os::fd::AsRawFd,
    process::Command,
    ptr, slice,
};

use handover_control::{Message, MessageFile, Region};

use crate::{Outcome, check, pair};

fn file_of(message: Message) -> Option<MessageFile> {
    match message.region {
        Some(Region::File(file)) => Some(file),
        _ => None,
    }
}

/// Maps a file, readable and writable.
fn map(file: &File, bytes: usize) -> Option<&'static mut [u8]> {
    // SAFETY: a new mapping at an address of the kernel's choice; it is never unmapped, and used until its pages are gone.
    unsafe {
        let start = libc::mmap(
            ptr::null_mut(),
            bytes,
            libc::PROT_READ | libc::PROT_WRITE,
            libc::MAP_SHARED,
            file.as_raw_fd(),
            0,
        );
        (start != libc::MAP_FAILED).then(|| slice::from_raw_parts_mut(start.cast(), bytes))
    }
}

/// The argument with which this program touches a message that was sent, and dies of it.
pub const TOUCH: &str = "touch";

pub fn run() -> Outcome {
    let (client, server) = pair()?;
    // Made like any file, sent by its name.
    fs::write("/msg/letter", b"dear reader")?;
    let kept = File::open("/msg/letter")?;
    check("size", fs::metadata("/msg/letter")?.len() == 11);
    (&client).write_all(b"/msg/letter\0with love")?;
    check("its name is gone", fs::metadata("/msg/letter").unwrap_err().kind() == ErrorKind::NotFound);
    check("stale", (&kept).read(&mut [0; 4]).unwrap_err().raw_os_error() == Some(libc::ESTALE));

    let message = server.receive()?.ok_or("no message")?;
    check("short", message.short == b"with love");
    let file = file_of(message).ok_or("no file")?;
    check("received size", file.metadata()?.len() == 4096);
    let mut start = [0; 12];
    (&*file).read_exact(&mut start)?;
    check("bytes", &start == b"dear reader\0");
    (&*file).seek(SeekFrom::Start(5))?;
    (&*file).write_all(b"writer")?;
    // A mapping has the same bytes, and so has the file.
    let bytes = map(&file, 4096).ok_or("not mapped")?;
    check("mapped", &bytes[..12] == b"dear writer\0");
    bytes[0] = b'D';
    bytes[4095] = 7;
    let mut all = Vec::new();
    (&*file).rewind()?;
    (&*file).read_to_end(&mut all)?;
    check("written there", all.len() == 4096 && &all[..11] == b"Dear writer" && all[4095] == 7);
    server.send(Region::File(file)).map_err(|failed| failed.error)?;
    let back = file_of(client.receive()?.ok_or("no message")?).ok_or("no file")?;
    let path = back.path().to_owned();
    drop(back);
    check("discarded", !path.exists());

    // A file that grows while it is mapped.
    let mut growing = File::options().read(true).write(true).create_new(true).open("/msg/growing")?;
    let bytes = map(&growing, 8192).ok_or("not mapped")?;
    growing.write_all(b"first")?;
    check("in its place", &bytes[..5] == b"first");
    growing.seek(SeekFrom::Start(8000))?;
    growing.write_all(b"later")?;
    check("moved", &bytes[..5] == b"first" && &bytes[8000..8005] == b"later");
    check(
        "no other folder",
        fs::rename("/msg/growing", "/tmp/x").unwrap_err().raw_os_error() == Some(libc::EXDEV),
    );
    // A call from the mapping into the file itself.
    growing.rewind()?;
    growing.write_all(&bytes[8000..8005])?;
    check("onto itself", &bytes[..6] == b"later\0");
    fs::remove_file("/msg/growing")?;

    // Who touches a message that was sent gets SIGBUS; from a system call, EFAULT.
    let status = Command::new(std::env::current_exe()?).arg(TOUCH).status()?;
    use std::os::unix::process::ExitStatusExt;
    check("a touch", status.signal() == Some(libc::SIGBUS));
    Ok(())
}

/// In a process of its own.
pub fn touch() -> Outcome {
    let (client, _server) = pair()?;
    let file = File::options().read(true).write(true).create_new(true).open("/msg/touched")?;
    file.set_len(4096)?;
    let bytes = map(&file, 4096).ok_or("not mapped")?;
    bytes[0] = 1;
    (&client).write_all(b"/msg/touched\0")?;
    let failed = File::options()
        .write(true)
        .open("/tmp/touched")
        .or_else(|_| File::create("/tmp/touched"))?
        .write(bytes);
    check("by a call", failed.is_err_and(|error| error.raw_os_error() == Some(libc::EFAULT)));
    // SAFETY: aligned, and of a byte; there is nothing any more, which is what is tried.
    let value = unsafe { ptr::read_volatile(bytes.as_ptr()) };
    println!("sockets: still there: {value}");
    Ok(())
}
