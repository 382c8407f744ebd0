//! What templates take from Python and minijinja has otherwise: how values print, `json.dumps`, and methods of strings.

use minijinja::{
    Environment, Error, ErrorKind, State, Value,
    value::{Kwargs, Tuple, ValueKind},
};
use serde_json::Value as Json;

/// Longest padding of a string, in characters.
const MAX_WIDTH: usize = 10_000;

/// Longest text that a method takes, in bytes: more than any model reads.
const MAX_TEXT: usize = 1 << 20;

/// Longest text that a method makes, in bytes. What filters and operators make is bounded by minijinja's fuel.
const MAX_MADE: usize = 16 << 20;

/// Lists in lists that are printed. Python stops at a thousand.
const MAX_DEPTH: usize = 200;

pub(super) fn add_to(environment: &mut Environment<'_>) {
    environment.set_unknown_method_callback(method);
    environment.set_formatter(|out, _, value| {
        if value.is_undefined() {
            return Ok(());
        }
        out.write_str(&checked(value).map(printed)?).map_err(Error::from)
    });
    environment.add_filter("string", |value: Value| checked(&value).map(printed));
    environment.add_filter("tojson", tojson);
}

/// Refuses a value that is nested too deep, or holds too much, to be written: writing it recurses.
fn checked(value: &Value) -> Result<&Value, Error> {
    fn fits(value: &Value, depth: usize, left: &mut usize) -> bool {
        if !matches!(value.kind(), ValueKind::Seq | ValueKind::Map) {
            return true;
        }
        let is_map = value.kind() == ValueKind::Map;
        depth < MAX_DEPTH
            && value.try_iter().into_iter().flatten().all(|item| {
                *left = left.saturating_sub(1);
                let inner = if is_map { value.get_item(&item).unwrap_or_default() } else { item };
                *left > 0 && fits(&inner, depth + 1, left)
            })
    }
    let mut left = 1 << 20;
    match fits(value, 0, &mut left) {
        true => Ok(value),
        false => Err(Error::new(ErrorKind::InvalidOperation, "lists in lists, too deep or too many to be written")),
    }
}

/// Python's `str`.
fn printed(value: &Value) -> String {
    match value.kind() {
        ValueKind::Bool => if value.is_true() { "True" } else { "False" }.to_owned(),
        ValueKind::None => "None".to_owned(),
        ValueKind::Number => number(value),
        ValueKind::Seq | ValueKind::Map => represented(value),
        _ => value.to_string(),
    }
}

fn number(value: &Value) -> String {
    if value.is_integer() {
        return value.to_string();
    }
    f64::try_from(value.clone()).map_or_else(|_| value.to_string(), float)
}

/// Python's `repr`.
fn represented(value: &Value) -> String {
    match value.kind() {
        ValueKind::Undefined => "Undefined".to_owned(),
        ValueKind::String => {
            let text = value.as_str().unwrap_or_default();
            let quote = if text.contains('\'') && !text.contains('"') { '"' } else { '\'' };
            let mut out = String::from(quote);
            for character in text.chars() {
                match character {
                    '\\' => out += "\\\\",
                    '\n' => out += "\\n",
                    '\r' => out += "\\r",
                    '\t' => out += "\\t",
                    character if character == quote => out.extend(['\\', character]),
                    character => out.push(character),
                }
            }
            out + &quote.to_string()
        }
        ValueKind::Seq => {
            let entries: Vec<String> = value.try_iter().into_iter().flatten().map(|item| represented(&item)).collect();
            match (value.is_tuple(), entries.as_slice()) {
                (true, [entry]) => format!("({entry},)"),
                (true, entries) => format!("({})", entries.join(", ")),
                (false, entries) => format!("[{}]", entries.join(", ")),
            }
        }
        ValueKind::Map => {
            let keys = value.try_iter().into_iter().flatten();
            let entry = |key: Value| {
                let item = value.get_item(&key).unwrap_or_default();
                format!("{}: {}", represented(&key), represented(&item))
            };
            format!("{{{}}}", keys.map(entry).collect::<Vec<_>>().join(", "))
        }
        _ => printed(value),
    }
}

/// Python's shortest form of a floating point number.
fn float(value: f64) -> String {
    if value.is_nan() {
        return "nan".to_owned();
    }
    if value.is_infinite() {
        return if value > 0.0 { "inf" } else { "-inf" }.to_owned();
    }
    let magnitude = value.abs();
    if magnitude != 0.0 && !(1e-4..1e16).contains(&magnitude) {
        // Rust writes 1e-5 where Python writes 1e-05.
        let text = format!("{value:e}");
        let (digits, exponent) = text.split_once('e').unwrap_or((&text, "0"));
        let (sign, exponent) = exponent.strip_prefix('-').map_or(('+', exponent), |exponent| ('-', exponent));
        return format!("{digits}e{sign}{exponent:0>2}");
    }
    let text = value.to_string();
    if text.contains('.') { text } else { text + ".0" }
}

/// Hugging Face's `tojson`: Python's `json.dumps`, nothing escaped for HTML.
fn tojson(value: &Value, options: Kwargs) -> Result<String, Error> {
    let ascii = options.get::<Option<bool>>("ensure_ascii")?.unwrap_or(false);
    let sort_keys = options.get::<Option<bool>>("sort_keys")?.unwrap_or(false);
    let indent = match options.get::<Option<Value>>("indent")? {
        None => None,
        Some(value) if value.is_none() => None,
        Some(value) => Some(match value.as_str() {
            Some(text) => text.to_owned(),
            None => " ".repeat(usize::try_from(value).unwrap_or(0).min(64)),
        }),
    };
    let separators: Option<Vec<String>> = options.get("separators")?;
    options.assert_all_used()?;
    let (item, key) = match separators.as_deref() {
        Some([item, key]) => (item.clone(), key.clone()),
        Some(_) => return Err(Error::new(ErrorKind::InvalidOperation, "tojson: separators are two texts")),
        None if indent.is_some() => (",".to_owned(), ": ".to_owned()),
        None => (", ".to_owned(), ": ".to_owned()),
    };
    let json = serde_json::to_value(checked(value)?)
        .map_err(|error| Error::new(ErrorKind::BadSerialization, format!("tojson: {error}")))?;
    let mut dump = Dump { ascii, sort_keys, indent, item, key, out: String::new() };
    dump.write(&json, 0);
    Ok(dump.out)
}

struct Dump {
    ascii: bool,
    sort_keys: bool,
    indent: Option<String>,
    item: String,
    key: String,
    out: String,
}

impl Dump {
    fn write(&mut self, value: &Json, depth: usize) {
        match value {
            Json::String(text) => self.text(text),
            Json::Number(number) if number.is_f64() => self.out += &float(number.as_f64().unwrap_or_default()),
            Json::Array(items) if !items.is_empty() => {
                self.out.push('[');
                for (index, item) in items.iter().enumerate() {
                    self.next(index, depth + 1);
                    self.write(item, depth + 1);
                }
                self.line(depth);
                self.out.push(']');
            }
            Json::Object(map) if !map.is_empty() => {
                self.out.push('{');
                let mut entries: Vec<_> = map.iter().collect();
                if self.sort_keys {
                    entries.sort_by_key(|(key, _)| key.as_str());
                }
                for (index, (key, item)) in entries.into_iter().enumerate() {
                    self.next(index, depth + 1);
                    self.text(key);
                    self.out += &self.key;
                    self.write(item, depth + 1);
                }
                self.line(depth);
                self.out.push('}');
            }
            value => self.out += &value.to_string(),
        }
    }

    fn next(&mut self, index: usize, depth: usize) {
        if index > 0 {
            self.out += &self.item;
        }
        self.line(depth);
    }

    fn line(&mut self, depth: usize) {
        if let Some(indent) = &self.indent {
            self.out.push('\n');
            self.out += &indent.repeat(depth);
        }
    }

    fn text(&mut self, text: &str) {
        let quoted = Json::from(text).to_string();
        if !self.ascii {
            // Python escapes DEL no more than serde_json does.
            self.out += &quoted;
            return;
        }
        for character in quoted.chars() {
            if character.is_ascii() {
                self.out.push(character);
            } else {
                for unit in character.encode_utf16(&mut [0; 2]) {
                    self.out += &format!("\\u{unit:04x}");
                }
            }
        }
    }
}

/// Refuses a method of a text whose result would be larger than any prompt.
fn within_bounds(text: &str, name: &str, arguments: &[Value]) -> Result<(), Error> {
    let made = match (name, arguments) {
        ("replace", [old, new, ..]) => {
            let (old, new) = (old.as_str().unwrap_or_default(), new.as_str().unwrap_or_default());
            text.len().saturating_add(text.matches(old).count().saturating_mul(new.len()))
        }
        ("join", [list]) if matches!(list.kind(), ValueKind::Seq | ValueKind::Map | ValueKind::String) => {
            let lengths = list.try_iter()?.map(|item| item.as_str().map_or(32, str::len).saturating_add(text.len()));
            lengths.fold(0, usize::saturating_add)
        }
        _ => 0,
    };
    if text.len() <= MAX_TEXT && made <= MAX_MADE {
        return Ok(());
    }
    Err(Error::new(ErrorKind::InvalidOperation, format!("{name}: the text is longer than any prompt")))
}

/// Python's methods: those of minijinja-contrib, and some more of strings and lists.
fn method(state: &mut State<'_, '_>, value: &Value, name: &str, arguments: &[Value]) -> Result<Value, Error> {
    if let Some(text) = value.as_str() {
        within_bounds(text, name, arguments)?;
        let words: Vec<&str> = arguments.iter().filter_map(Value::as_str).collect();
        let tuple = |parts: [&str; 3]| Value::from(Tuple::from(parts.map(Value::from)));
        match (name, words.as_slice()) {
            ("removeprefix", [prefix]) => return Ok(text.strip_prefix(prefix).unwrap_or(text).into()),
            ("removesuffix", [suffix]) => return Ok(text.strip_suffix(suffix).unwrap_or(text).into()),
            ("partition", [separator]) => {
                return Ok(tuple(text.split_once(separator).map_or([text, "", ""], |(a, b)| [a, separator, b])));
            }
            ("rpartition", [separator]) => {
                return Ok(tuple(text.rsplit_once(separator).map_or(["", "", text], |(a, b)| [a, separator, b])));
            }
            ("rsplit", [separator]) if !separator.is_empty() => {
                let most = arguments.get(1).and_then(|most| usize::try_from(most.clone()).ok());
                let mut parts: Vec<&str> = match most {
                    Some(most) => text.rsplitn(most + 1, separator).collect(),
                    None => text.rsplit(separator).collect(),
                };
                parts.reverse();
                return Ok(parts.into_iter().map(Value::from).collect());
            }
            ("index", [part]) => {
                return match text.find(part) {
                    Some(at) => Ok(text[..at].chars().count().into()),
                    None => Err(Error::new(ErrorKind::InvalidOperation, "index: substring not found")),
                };
            }
            ("swapcase", []) => {
                let swap = |c: char| -> String {
                    if c.is_uppercase() { c.to_lowercase().collect() } else { c.to_uppercase().collect() }
                };
                return Ok(text.chars().map(swap).collect::<String>().into());
            }
            ("ljust" | "rjust" | "zfill" | "center", fill) => {
                let width = arguments.first().and_then(|width| usize::try_from(width.clone()).ok()).unwrap_or(0);
                let missing = width.min(MAX_WIDTH).saturating_sub(text.chars().count());
                let fill = if name == "zfill" { "0" } else { fill.first().copied().unwrap_or(" ") };
                // As CPython, which puts the odd one before only when the width is odd as well.
                let before = match name {
                    "ljust" => 0,
                    "center" => missing / 2 + (missing & width & 1),
                    _ => missing,
                };
                return Ok(format!("{}{text}{}", fill.repeat(before), fill.repeat(missing - before)).into());
            }
            _ => {}
        }
    }
    if value.kind() == ValueKind::Seq
        && name == "index"
        && let [wanted] = arguments
    {
        let at = value.try_iter()?.position(|item| item == *wanted);
        return at.map(Value::from).ok_or_else(|| Error::new(ErrorKind::InvalidOperation, "index: not in list"));
    }
    minijinja_contrib::pycompat::unknown_method_callback(state, value, name, arguments)
}
