//! Processes, and pipes between them.

use std::{
    io::{self, BufRead, BufReader, Read, Write},
    os::unix::process::ExitStatusExt,
    process::{Command, Stdio},
};

use crate::tell;

fn child(arguments: &[&str]) -> Command {
    let mut command = crate::itself();
    command.arg("child").args(arguments);
    command
}

pub(crate) fn all() {
    let output = child(&["echo", "one", "two words"]).output().unwrap();
    tell("output of a child", (output.status.code(), String::from_utf8_lossy(&output.stdout)));
    let output = child(&["variable"]).env("CONFORMANCE", "value").current_dir("/tmp").output().unwrap();
    tell("its environment", String::from_utf8_lossy(&output.stdout));
    tell("its status", child(&["status", "42"]).status().unwrap().code());
    tell("of one with a thread", child(&["threads"]).status().unwrap().code());
    for how in ["abort", "fault"] {
        let status = child(&[how]).stderr(Stdio::null()).status().unwrap();
        tell(how, (status.code(), status.signal()));
    }
    let missing = Command::new("/tmp/conformance-missing").spawn().map(drop);
    tell("a program that is not there", missing.map_err(|error| error.kind()));
    pipes();
    killed();
    many();
}

fn pipes() {
    let mut upper = child(&["upper"]).stdin(Stdio::piped()).stdout(Stdio::piped()).spawn().unwrap();
    upper.stdin.take().unwrap().write_all(b"small letters").unwrap();
    tell("through a child", String::from_utf8_lossy(&upper.wait_with_output().unwrap().stdout));
    // One child's output is another's input.
    let mut first = child(&["echo", "chained"]).stdout(Stdio::piped()).spawn().unwrap();
    let second = child(&["upper"]).stdin(first.stdout.take().unwrap()).output().unwrap();
    tell("through two", (String::from_utf8_lossy(&second.stdout), first.wait().unwrap().code()));
    let (mut reader, mut writer) = io::pipe().unwrap();
    writer.write_all(b"pipe").unwrap();
    drop(writer);
    let mut text = String::new();
    reader.read_to_string(&mut text).unwrap();
    tell("a pipe", text);
    let (reader, mut writer) = io::pipe().unwrap();
    drop(reader);
    tell("a pipe that nobody reads", writer.write(b"x").map_err(|error| error.kind()));
}

fn killed() {
    let mut child = child(&["wait"]).spawn().unwrap();
    tell("still runs", child.try_wait().unwrap().is_none());
    child.kill().unwrap();
    let status = child.wait().unwrap();
    tell("killed", (status.code(), status.signal()));
}

/// More than a pipe holds, read while it is written, and from a child that has to stop in the middle.
fn many() {
    let mut child = child(&["many"]).stdout(Stdio::piped()).spawn().unwrap();
    let lines = BufReader::new(child.stdout.take().unwrap()).lines();
    let bytes: usize = lines.map(|line| line.unwrap().len() + 1).sum();
    tell("20,000 lines", (bytes, child.wait().unwrap().code()));
    let children: Vec<_> =
        (0..10).map(|n| self::child(&["status", &n.to_string()]).spawn().unwrap()).collect();
    let codes: Vec<_> = children.into_iter().map(|mut child| child.wait().unwrap().code().unwrap()).collect();
    tell("ten children", codes);
}
