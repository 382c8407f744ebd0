//! Typed access to the keys of an image processor; messages name the key and what it should hold.

use serde_json::{Map, Value};

use crate::{
    error::{Error, Result},
    resample::Filter,
};

/// Target of a resize or a crop, in the forms image processors use.
#[derive(Debug, Clone, Copy, PartialEq)]
pub(super) enum Size {
    Exact { height: u32, width: u32 },
    ShortestEdge { shortest: u32, longest: Option<u32> },
    LongestEdge(u32),
    Within { height: u32, width: u32 },
}

const SIZES: &str = "a number, [height, width], {height, width}, {shortest_edge, longest_edge}, {longest_edge} or \
                     {max_height, max_width}";

/// Longest side of a target, in pixels.
const MAX_SIDE: u64 = 16384;

/// The keys of a processor. One whose value is `null` is one that is not there, as in Transformers.
pub(super) struct Keys<'a>(pub(super) &'a Map<String, Value>);

impl Keys<'_> {
    pub(super) fn get(&self, key: &str) -> Option<&Value> {
        self.0.get(key).filter(|value| !value.is_null())
    }

    pub(super) fn wrong(&self, key: &str, expected: &str) -> Error {
        let found = self.get(key).map_or_else(|| "nothing".to_owned(), Value::to_string);
        Error::Request(format!("image processor key `{key}` is {found}; expected {expected}"))
    }

    pub(super) fn on(&self, key: &str, default: bool) -> Result<bool> {
        match self.get(key) {
            None => Ok(default),
            Some(value) => value.as_bool().ok_or_else(|| self.wrong(key, "true or false")),
        }
    }

    pub(super) fn number(&self, key: &str, default: f64) -> Result<f64> {
        match self.get(key) {
            None => Ok(default),
            Some(value) => value.as_f64().ok_or_else(|| self.wrong(key, "a number")),
        }
    }

    /// A whole number from 1 to `most`.
    pub(super) fn count(&self, key: &str, most: u32) -> Result<u32> {
        let count = self.get(key).and_then(Value::as_u64).and_then(|count| u32::try_from(count).ok());
        count
            .filter(|count| (1..=most).contains(count))
            .ok_or_else(|| self.wrong(key, &format!("a whole number from 1 to {most}")))
    }

    pub(super) fn filter(&self) -> Result<Filter> {
        match self.get("resample") {
            Some(value) => {
                let code = value.as_u64().ok_or_else(|| self.wrong("resample", "a Pillow filter code, 0 to 5"))?;
                Filter::from_code(code)
            }
            None => Ok(Filter::Bilinear),
        }
    }

    /// A size; a bare number is a square, or else the shorter edge.
    pub(super) fn size(&self, key: &str, square: bool) -> Result<Size> {
        let edge = |value: &Value| {
            let edge = value.as_u64().filter(|edge| (1..=MAX_SIDE).contains(edge));
            let edge = edge.and_then(|edge| u32::try_from(edge).ok());
            edge.ok_or_else(|| self.wrong(key, &format!("{SIZES}, each from 1 to {MAX_SIDE} pixels")))
        };
        match self.get(key) {
            Some(value @ Value::Number(_)) if square => {
                let edge = edge(value)?;
                Ok(Size::Exact { height: edge, width: edge })
            }
            Some(value @ Value::Number(_)) => Ok(Size::ShortestEdge { shortest: edge(value)?, longest: None }),
            Some(Value::Array(pair)) if pair.len() == 2 => {
                Ok(Size::Exact { height: edge(&pair[0])?, width: edge(&pair[1])? })
            }
            Some(Value::Object(map)) => {
                let part = |name: &str| map.get(name).filter(|value| !value.is_null()).map(edge).transpose();
                let within = part("max_height")?.zip(part("max_width")?);
                match (part("height")?, part("width")?, part("shortest_edge")?, part("longest_edge")?) {
                    (Some(height), Some(width), None, None) => Ok(Size::Exact { height, width }),
                    (None, None, Some(shortest), longest) => Ok(Size::ShortestEdge { shortest, longest }),
                    (None, None, None, Some(longest)) => Ok(Size::LongestEdge(longest)),
                    (None, None, None, None) if within.is_some() => {
                        let (height, width) = within.unwrap_or_default();
                        Ok(Size::Within { height, width })
                    }
                    _ => Err(self.wrong(key, SIZES)),
                }
            }
            _ => Err(self.wrong(key, SIZES)),
        }
    }

    /// Height and width.
    pub(super) fn exact(&self, key: &str) -> Result<(u32, u32)> {
        match self.size(key, true)? {
            Size::Exact { height, width } => Ok((height, width)),
            _ => Err(self.wrong(key, "a number, [height, width] or {height, width}")),
        }
    }

    /// One number for each colour, or one for all.
    pub(super) fn channel_values(&self, key: &str) -> Result<Vec<f64>> {
        let values = match self.get(key) {
            Some(Value::Array(values)) => values.iter().map(Value::as_f64).collect(),
            Some(value) => value.as_f64().map(|value| vec![value]),
            None => None,
        };
        let valid = values.filter(|values: &Vec<f64>| {
            !values.is_empty() && (key != "image_std" || values.iter().all(|value| *value != 0.0))
        });
        valid.ok_or_else(|| self.wrong(key, "one number per channel (no zero in image_std)"))
    }
}
