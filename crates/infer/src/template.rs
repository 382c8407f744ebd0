//! Chat templates: Jinja in Hugging Face's dialect (`transformers/utils/chat_template_utils.py`), rendered within
//! bounds. A template comes with a model and is not trusted: it sees its arguments and nothing else.

mod bounds;
mod python;

use std::{fmt::Write as _, fs, sync::Arc};

use jiff::{Zoned, civil::DateTime, fmt::strtime};
use minijinja::{Environment, ErrorKind, syntax::SyntaxConfig};
use serde_json::{Map, Value, json};

use crate::{
    bundle::{Bundle, read_optional_json},
    error::{Error, Result},
    foreign::shown,
};

/// A model's chat template. Cheap to clone.
#[derive(Debug, Clone)]
pub(crate) struct Template(Arc<Source>);

#[derive(Debug)]
struct Source {
    /// The file it stands in.
    file: String,
    /// Its text, with the tags this dialect adds rewritten.
    source: String,
    /// `bos_token` and the other special tokens of `tokenizer_config.json`, which templates name.
    tokens: Map<String, Value>,
}

/// What a template may do, in minijinja's units: an instruction, or 64 bytes of what it makes. A thousand messages take less
/// than a quarter, and no template makes more than 128 MB.
const FUEL: u64 = 2_000_000;

/// Longest text rendered, in bytes.
const MAX_BYTES: usize = 4 << 20;

impl Template {
    /// The template of a folder, from where Transformers takes it: `chat_template.jinja`, `chat_template.json`, then
    /// `chat_template` of `tokenizer_config.json`, where a list holds one called `default`.
    ///
    /// # Errors
    /// [`Error::Bundle`] for a malformed file, a list without `default`, and a template that does not parse, with its
    /// line, or does not come to an end with one message.
    pub(crate) fn load(bundle: &Bundle) -> Result<Option<Self>> {
        let at = |name: &str| bundle.folder.join(name);
        let config = read_optional_json(&at("tokenizer_config.json"))?.unwrap_or_default();
        let (file, source) = if at("chat_template.jinja").is_file() {
            let path = at("chat_template.jinja");
            let source = fs::read_to_string(&path).map_err(|error| Error::bundle(&path, error.to_string()))?;
            ("chat_template.jinja", source)
        } else if let Some(stated) = read_optional_json(&at("chat_template.json"))? {
            match stated["chat_template"].as_str() {
                Some(source) => ("chat_template.json", source.to_owned()),
                None => return Err(Error::bundle(at("chat_template.json"), "it has no text `chat_template`")),
            }
        } else {
            let file = "tokenizer_config.json";
            match &config["chat_template"] {
                Value::Null => return Ok(None),
                Value::String(source) => (file, source.clone()),
                Value::Array(list) => match list.iter().find(|entry| entry["name"] == "default") {
                    Some(entry) => (file, entry["template"].as_str().unwrap_or_default().to_owned()),
                    None => {
                        let names: Vec<&str> = list.iter().filter_map(|entry| entry["name"].as_str()).collect();
                        let names = names.join(", ");
                        return Err(Error::bundle(
                            at(file),
                            format!(
                                "`chat_template` has no template called default, only {names}; rename the right one"
                            ),
                        ));
                    }
                },
                _ => return Err(Error::bundle(at(file), "`chat_template` is neither a text nor a list of templates")),
            }
        };
        let template = Self::new(file, &source, special_tokens(&config));
        template.try_out().map_err(|problem| Error::bundle(at(file), problem))?;
        Ok(Some(template))
    }

    fn new(file: &str, source: &str, tokens: Map<String, Value>) -> Self {
        Self(Arc::new(Source { file: file.to_owned(), source: without_generation_tags(source), tokens }))
    }

    /// Parses the template, and renders one message in both forms. What it says of those is not looked at: only that it comes
    /// to an end.
    fn try_out(&self) -> std::result::Result<(), String> {
        bounds::check(&self.0.source)?;
        let template = Arc::clone(&self.0);
        bounds::apart(move || template.environment(None).map(|_| ()).map_err(|error| say(&error)))??;
        let parts = json!([{"type": "image"}, {"type": "text", "text": "Describe this image."}]);
        for content in [parts, json!("Describe this image.")] {
            let messages = json!([{"role": "user", "content": content}]);
            let context = self.context(&messages, &json!({"add_generation_prompt": true}))?;
            if let Err(Failed { endless: true, words }) = self.rendered(context, None) {
                return Err(words);
            }
        }
        Ok(())
    }

    /// The prompt of a conversation. `arguments` are those of `apply_chat_template` by their names, such as
    /// `add_generation_prompt`, over the special tokens; `now`, a date and time without zone such as
    /// `2026-11-22T20:00:00`, is the time that `strftime_now` tells instead of this machine's.
    ///
    /// # Errors
    /// [`Error::Request`] when the template raises, fails or does not come to an end, with its file and line.
    pub(crate) fn render(&self, messages: &Value, arguments: &Value) -> Result<String> {
        let file = &self.0.file;
        let now = arguments.get("now").and_then(Value::as_str);
        let now = now.map(|now| now.parse::<DateTime>().map_err(|_| now)).transpose().map_err(|now| {
            Error::Request(format!("template argument `now` is {now:?}; expected a time such as 2026-11-22T20:00:00"))
        })?;
        bounds::check(&self.0.source).map_err(|problem| Error::Request(format!("{file}: {problem}")))?;
        let context = self.context(messages, arguments).map_err(Error::Request)?;
        let text = self.rendered(context, now).map_err(|Failed { words, .. }| {
            Error::Request(format!("{file}: {words}; change the messages or correct the template"))
        })?;
        if text.len() > MAX_BYTES {
            return Err(Error::Request(format!("{file}: it writes more than {MAX_BYTES} bytes")));
        }
        Ok(text)
    }

    /// What a template sees.
    fn context(&self, messages: &Value, arguments: &Value) -> std::result::Result<Value, String> {
        let mut values = self.0.tokens.clone();
        for (name, value) in
            [("add_generation_prompt", Value::from(false)), ("tools", Value::Null), ("documents", Value::Null)]
        {
            values.entry(name).or_insert(value);
        }
        match arguments {
            Value::Null => {}
            Value::Object(arguments) => {
                let given = arguments.iter().filter(|(key, _)| *key != "now");
                values.extend(given.map(|(key, value)| (key.clone(), value.clone())));
            }
            _ => return Err("template arguments must be a JSON object".to_owned()),
        }
        values.insert("messages".to_owned(), messages.clone());
        Ok(Value::Object(values))
    }

    fn rendered(&self, context: Value, now: Option<DateTime>) -> std::result::Result<String, Failed> {
        let template = Arc::clone(&self.0);
        let rendered = bounds::apart(move || {
            let environment = template.environment(now)?;
            let context = minijinja::Value::from(minijinja::value::Serde(&context));
            environment.get_template(&template.file)?.render(context)
        });
        let rendered = rendered.map_err(|words| Failed { endless: true, words })?;
        rendered.map_err(|error| Failed { endless: error.kind() == ErrorKind::OutOfFuel, words: say(&error) })
    }

    /// Whether the template takes the content of a message as a list of parts; the others take a text, in which the
    /// images are named as the model's authors say.
    pub(crate) fn takes_parts(&self) -> bool {
        let text = "\u{2042}parts\u{2042}";
        let messages = json!([{"role": "user", "content": [{"type": "text", "text": text}]}]);
        self.render(&messages, &Value::Null).is_ok_and(|rendered| rendered.contains(text) && !rendered.contains("type"))
    }
}

/// Why there is no text.
#[derive(Debug)]
struct Failed {
    /// The template does not come to an end, or would take more than is given to it.
    endless: bool,
    words: String,
}

impl Source {
    fn environment(&self, now: Option<DateTime>) -> std::result::Result<Environment<'_>, minijinja::Error> {
        let mut environment = Environment::new();
        environment.set_syntax(SyntaxConfig::builder().trim_blocks(true).lstrip_blocks(true).build()?);
        environment.set_fuel(Some(FUEL));
        environment.set_auto_escape_callback(|_| minijinja::AutoEscape::None);
        python::add_to(&mut environment);
        environment.add_function("raise_exception", |message: String| -> std::result::Result<(), minijinja::Error> {
            Err(minijinja::Error::new(ErrorKind::InvalidOperation, message))
        });
        environment.add_function("strftime_now", move |format: String| {
            let now = now.unwrap_or_else(|| Zoned::now().datetime());
            strtime::format(format, now)
                .map_err(|error| minijinja::Error::new(ErrorKind::InvalidOperation, format!("strftime_now: {error}")))
        });
        environment.add_template(&self.file, &self.source)?;
        Ok(environment)
    }
}

/// What went wrong, and in which line. A template chooses some of these words itself.
fn say(error: &minijinja::Error) -> String {
    let mut words = String::new();
    if let Some(line) = error.line() {
        let _ = write!(words, "line {line}: ");
    }
    match (error.kind(), error.detail()) {
        (ErrorKind::OutOfFuel, _) => words += "the template does not come to an end",
        (kind, Some(detail)) => {
            let _ = write!(words, "{kind}: {detail}");
        }
        (kind, None) => {
            let _ = write!(words, "{kind}");
        }
    }
    shown(&words)
}

/// Every `…_token` of `tokenizer_config.json`: a text, or an object with one as `content`.
fn special_tokens(config: &Value) -> Map<String, Value> {
    let token = |(key, value): (&String, &Value)| {
        let text = value.as_str().or_else(|| value["content"].as_str())?;
        key.ends_with("_token").then(|| (key.clone(), text.into()))
    };
    let more = config["extra_special_tokens"].as_object().into_iter().flatten();
    config.as_object().into_iter().flatten().chain(more).filter_map(token).collect()
}

/// `{% generation %}` marks what an assistant said, for training; here it only opens a scope, as a block of Jinja's own.
fn without_generation_tags(source: &str) -> String {
    let mut out = String::with_capacity(source.len());
    let mut rest = source;
    while let Some(begin) = rest.find("{%") {
        let (before, tag) = rest.split_at(begin);
        out += before;
        let Some(end) = tag.find("%}") else {
            rest = tag;
            break;
        };
        let inside = &tag[2..end];
        let name = inside.trim_matches(['-', '+']).trim();
        match name {
            "generation" => out += &tag[..end + 2].replacen("generation", "with", 1),
            "endgeneration" => out += &tag[..end + 2].replacen("endgeneration", "endwith", 1),
            _ => out += &tag[..end + 2],
        }
        rest = &tag[end + 2..];
    }
    out + rest
}

#[cfg(test)]
mod tests;
