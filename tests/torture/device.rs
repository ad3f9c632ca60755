//! A file system on a disk that obeys: its power can be cut, and it can be filled up. A file behind
//! a loop device; root only.

use super::campaign::Skip;
use crate::support::server::{Folder, eventually};
use std::fs;
use std::io::{BufRead as _, BufReader, Write as _};
use std::os::unix::fs::MetadataExt as _;
use std::path::PathBuf;
use std::process::{Child, ChildStdin, ChildStdout, Command, Stdio};

/// A system call that the standard library has no words for, asked for by line:
/// `EXT4_IOC_SHUTDOWN` without a flush of the journal leaves on the disk what a power cut does.
const HANDS: &str = r#"
import fcntl, os, struct, sys
def cut(folder):
    fd = os.open(folder, os.O_RDONLY)
    fcntl.ioctl(fd, 0x8004587D, struct.pack("I", 2))
    os.close(fd)
print("ready", flush=True)
for line in sys.stdin:
    try:
        cut(line.rstrip("\n"))
        print("done", flush=True)
    except OSError as e:
        print(e, flush=True)
"#;

/// The device and the file system on it, mounted while the power is on.
pub struct Device {
    folder: Folder,
    device: String,
    hands: Child,
    orders: ChildStdin,
    answers: BufReader<ChildStdout>,
}

impl Device {
    /// An empty ext4 file system of so many MiB.
    pub fn new(mebibytes: u64) -> Result<Self, Skip> {
        let folder = Folder::new();
        if fs::metadata(folder.path(".")).unwrap().uid() != 0 {
            return Err(Skip("loop devices need root".into()));
        }
        let image = folder.path("image");
        let file = fs::File::create(&image).unwrap();
        file.set_len(mebibytes << 20).unwrap();
        fs::create_dir(folder.path("disk")).unwrap();
        let image = image.to_str().unwrap();
        program("mkfs.ext4", &["-q", "-F", image])?;
        let (mut hands, orders, answers) = hands()?;
        let device = match program("losetup", &["--find", "--show", image]) {
            Ok(device) => device.trim().to_owned(),
            Err(skip) => {
                _ = hands.kill();
                _ = hands.wait();
                return Err(skip);
            }
        };
        let mut device = Self { folder, device, hands, orders, answers };
        device.try_mount()?;
        // Some machines have loop devices and forbid this.
        device.try_cut().map_err(Skip)?;
        device.unmount();
        device.try_mount()?;
        Ok(device)
    }

    /// Where it is mounted.
    pub fn path(&self, name: &str) -> PathBuf {
        self.folder.path("disk").join(name)
    }

    fn try_mount(&self) -> Result<(), Skip> {
        let at = self.folder.path("disk");
        program("mount", &["-t", "ext4", &self.device, at.to_str().unwrap()]).map(drop)
    }

    /// The power is cut: nothing is written any more, and each access fails. [`Device::again`]
    /// brings it back.
    pub fn cut(&mut self) {
        self.try_cut().unwrap();
    }

    fn try_cut(&mut self) -> Result<(), String> {
        let mut answer = String::new();
        let place = self.folder.path("disk");
        writeln!(self.orders, "{}", place.display()).map_err(|e| e.to_string())?;
        self.answers.read_line(&mut answer).map_err(|e| e.to_string())?;
        let answer = answer.trim_end();
        if answer == "done" { Ok(()) } else { Err(format!("EXT4_IOC_SHUTDOWN: {answer}")) }
    }

    /// Forgets what was not written, and mounts what is on the disk.
    pub fn again(&self) {
        self.unmount();
        if let Err(Skip(why)) = self.try_mount() {
            panic!("the file system did not survive: {why}");
        }
    }

    fn unmount(&self) {
        let at = self.folder.path("disk");
        // Whoever was killed a moment ago may not have let go yet.
        eventually("the end of the file system's use", || {
            program("umount", &[at.to_str().unwrap()]).is_ok().then_some(())
        });
    }
}

impl Drop for Device {
    fn drop(&mut self) {
        let at = self.folder.path("disk");
        // A mount point that is none, or a device that is free, needs nothing.
        _ = program("umount", &["-l", at.to_str().unwrap()]);
        _ = program("losetup", &["-d", &self.device]);
        _ = self.hands.kill();
        _ = self.hands.wait();
    }
}

fn hands() -> Result<(Child, ChildStdin, BufReader<ChildStdout>), Skip> {
    let mut command = Command::new("python3");
    // There scripts/torture looks for what is left behind.
    command.current_dir(std::env::temp_dir());
    command.args(["-c", HANDS]).stdin(Stdio::piped()).stdout(Stdio::piped());
    let mut hands = command.spawn().map_err(|e| Skip(format!("python3: {e}")))?;
    let orders = hands.stdin.take().unwrap();
    let mut answers = BufReader::new(hands.stdout.take().unwrap());
    let mut ready = String::new();
    _ = answers.read_line(&mut ready);
    if ready == "ready\n" {
        return Ok((hands, orders, answers));
    }
    _ = hands.kill();
    _ = hands.wait();
    Err(Skip("python3 does not start".into()))
}

/// Runs a program of the system; what it prints, or why it cannot do it.
pub fn program(name: &str, arguments: &[&str]) -> Result<String, Skip> {
    let output = Command::new(name).args(arguments).stdin(Stdio::null()).output();
    let output = output.map_err(|e| Skip(format!("{name}: {e}")))?;
    if output.status.success() {
        return Ok(String::from_utf8_lossy(&output.stdout).into_owned());
    }
    let words = String::from_utf8_lossy(&output.stderr);
    Err(Skip(format!("{name}: {}", words.trim().replace('\n', " "))))
}
