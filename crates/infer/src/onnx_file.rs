//! What an ONNX file says about itself, read without the runtime: its operator sets and the files its weights lie in.
//!
//! Only lengths and names are read; weights are skipped, so a file of gigabytes takes milliseconds.

use std::{
    collections::BTreeMap,
    fs::File,
    io::{self, BufRead, BufReader, Read},
    path::Path,
};

/// What the file says.
#[derive(Debug, Default, PartialEq, Eq)]
pub(crate) struct OnnxFile {
    /// Version of the standard operator set; 0 when the file names none.
    pub(crate) opset: i64,
    /// Files beside it that hold weights, and how many bytes each must have at least.
    pub(crate) weights: BTreeMap<String, u64>,
}

/// Nested graphs (the branches of an `If`) are followed this deep.
const MAX_DEPTH: usize = 16;

/// Longest name read; what is longer is no file name.
const MAX_TEXT: u64 = 4096;

/// Reads a file.
///
/// # Errors
/// A sentence that says what is wrong with the file and what to do.
pub(crate) fn inspect(path: &Path) -> Result<OnnxFile, String> {
    let file = File::open(path).map_err(|error| error.to_string())?;
    let size = file.metadata().map_err(|error| error.to_string())?.len();
    if size == 0 {
        return Err("the file is empty; copy it again from the model's source".to_owned());
    }
    let mut reader = Reader { file: BufReader::new(file), at: 0 };
    if reader.file.fill_buf().is_ok_and(|start| start.starts_with(b"version https://git-lfs")) {
        return Err("it is a Git LFS pointer, not the file itself; fetch it with: git lfs pull".to_owned());
    }
    let mut found = OnnxFile::default();
    match reader.message(Kind::Model, size, 0, &mut found) {
        Ok(()) => Ok(found),
        Err(Stop::Ends) => {
            Err(format!("the file ends in the middle of its graph ({size} bytes); it was cut short: copy it again"))
        }
        Err(Stop::Strange) => Err("it is not an ONNX file; copy it again from the model's source".to_owned()),
        Err(Stop::Unreadable(error)) => Err(error.to_string()),
    }
}

/// Why reading ended early.
enum Stop {
    Ends,
    Strange,
    Unreadable(io::Error),
}

/// Messages of `onnx.proto` on the way to weights.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Kind {
    Model,
    Opset,
    Graph,
    Node,
    Attribute,
    Tensor,
}

impl Kind {
    /// The kind of message in a field; none for what is skipped.
    fn inside(self, field: u64) -> Option<Self> {
        match (self, field) {
            (Self::Model, 7) | (Self::Attribute, 6 | 11) => Some(Self::Graph),
            (Self::Model, 8) => Some(Self::Opset),
            (Self::Graph, 1) => Some(Self::Node),
            (Self::Graph, 5) | (Self::Attribute, 5 | 10) => Some(Self::Tensor),
            (Self::Node, 5) => Some(Self::Attribute),
            _ => None,
        }
    }
}

struct Reader {
    file: BufReader<File>,
    at: u64,
}

/// Weights outside the file: `external_data` of a tensor.
#[derive(Default)]
struct External {
    location: Option<String>,
    offset: u64,
    length: u64,
}

impl Reader {
    fn message(&mut self, kind: Kind, end: u64, depth: usize, found: &mut OnnxFile) -> Result<(), Stop> {
        if depth > MAX_DEPTH {
            return Err(Stop::Strange);
        }
        let mut external = External::default();
        let (mut domain, mut version) = (String::new(), 0);
        while self.at < end {
            let tag = self.varint(end)?;
            let (field, wire) = (tag >> 3, tag & 7);
            match wire {
                0 => {
                    let value = self.varint(end)?;
                    if kind == Kind::Opset && field == 2 {
                        version = value.cast_signed();
                    }
                }
                1 => self.skip(8, end)?,
                5 => self.skip(4, end)?,
                2 => {
                    let length = self.varint(end)?;
                    let stop = self.at.checked_add(length).filter(|stop| *stop <= end).ok_or(Stop::Ends)?;
                    match (kind.inside(field), kind, field) {
                        (Some(inside), ..) => self.message(inside, stop, depth + 1, found)?,
                        (None, Kind::Tensor, 13) => self.entry(stop, &mut external)?,
                        (None, Kind::Opset, 1) => domain = self.text(stop)?,
                        _ => self.skip(length, end)?,
                    }
                }
                _ => return Err(Stop::Strange),
            }
        }
        if kind == Kind::Opset && (domain.is_empty() || domain == "ai.onnx") {
            found.opset = version;
        }
        if let Some(location) = external.location {
            let needed = found.weights.entry(location).or_default();
            *needed = (*needed).max(external.offset.saturating_add(external.length));
        }
        Ok(())
    }

    /// One key and value of `external_data`.
    fn entry(&mut self, end: u64, external: &mut External) -> Result<(), Stop> {
        let (mut key, mut value) = (String::new(), String::new());
        while self.at < end {
            let tag = self.varint(end)?;
            if tag & 7 != 2 {
                return Err(Stop::Strange);
            }
            let length = self.varint(end)?;
            let stop = self.at.checked_add(length).filter(|stop| *stop <= end).ok_or(Stop::Ends)?;
            match tag >> 3 {
                1 => key = self.text(stop)?,
                2 => value = self.text(stop)?,
                _ => self.skip(length, end)?,
            }
        }
        match key.as_str() {
            "location" => external.location = Some(value),
            "offset" => external.offset = value.parse().map_err(|_| Stop::Strange)?,
            "length" => external.length = value.parse().map_err(|_| Stop::Strange)?,
            _ => {}
        }
        Ok(())
    }

    fn varint(&mut self, end: u64) -> Result<u64, Stop> {
        let mut value = 0;
        for shift in (0..64).step_by(7) {
            if self.at >= end {
                return Err(Stop::Ends);
            }
            let mut byte = [0];
            self.file.read_exact(&mut byte).map_err(Stop::Unreadable)?;
            self.at += 1;
            value |= u64::from(byte[0] & 0x7f) << shift;
            if byte[0] < 0x80 {
                return Ok(value);
            }
        }
        Err(Stop::Strange)
    }

    fn skip(&mut self, length: u64, end: u64) -> Result<(), Stop> {
        if length > end.saturating_sub(self.at) {
            return Err(Stop::Ends);
        }
        match usize::try_from(length) {
            Ok(length) if length <= self.file.buffer().len() => self.file.consume(length),
            _ => self.file.seek_relative(length.cast_signed()).map_err(Stop::Unreadable)?,
        }
        self.at += length;
        Ok(())
    }

    fn text(&mut self, end: u64) -> Result<String, Stop> {
        let length = end - self.at;
        if length > MAX_TEXT {
            return Err(Stop::Strange);
        }
        let mut bytes = Vec::new();
        self.file.by_ref().take(length).read_to_end(&mut bytes).map_err(Stop::Unreadable)?;
        self.at = end;
        String::from_utf8(bytes).map_err(|_| Stop::Strange)
    }
}

#[cfg(test)]
mod tests {
    use std::fs;

    use super::*;

    /// A field with bytes; everything here is shorter than 128.
    fn field(number: u8, bytes: &[u8]) -> Vec<u8> {
        let length = u8::try_from(bytes.len()).expect("short");
        assert!(length < 128);
        [&[number << 3 | 2, length], bytes].concat()
    }

    fn external(location: &str, offset: &str, length: &str) -> Vec<u8> {
        let pairs = [("location", location), ("offset", offset), ("length", length)];
        let entry =
            |(key, value): (&str, &str)| field(13, &[field(1, key.as_bytes()), field(2, value.as_bytes())].concat());
        pairs.into_iter().flat_map(entry).collect()
    }

    fn inspected(bytes: &[u8]) -> Result<OnnxFile, String> {
        let file = tempfile::NamedTempFile::new().expect("a file");
        fs::write(file.path(), bytes).expect("written");
        inspect(file.path())
    }

    #[test]
    fn finds_operator_set_and_weights_also_inside_branches() {
        let opset = field(8, &[0x10, 17]);
        let other = field(8, &[field(1, b"com.microsoft"), vec![0x10, 1]].concat());
        let branch = field(6, &field(5, &external("inner.data", "8", "2")));
        let graph = [field(5, &external("w.data", "10", "20")), field(1, &field(5, &branch))].concat();
        let found = inspected(&[opset, other, field(7, &graph)].concat()).expect("readable");
        assert_eq!(found.opset, 17);
        assert_eq!(found.weights, BTreeMap::from([("w.data".to_owned(), 30), ("inner.data".to_owned(), 10)]));
    }

    #[test]
    fn says_what_is_wrong_with_a_file() {
        let check = |bytes: &[u8], part: &str| {
            let problem = inspected(bytes).expect_err(part);
            assert!(problem.contains(part), "{part:?} not in {problem:?}");
        };
        check(b"", "empty");
        check(b"version https://git-lfs.github.com/spec/v1", "git lfs pull");
        check(b"<!DOCTYPE html>", "not an ONNX file");
        let whole = field(7, &[1; 20]);
        check(&whole[..whole.len() - 1], "cut short");
    }
}
