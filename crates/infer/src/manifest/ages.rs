//! For whom a model was made: ages and sexes of patients, as a manifest writes them.

use std::fmt;

use serde::{Deserialize, Deserializer, Serialize, de::Error as _};

/// A range of ages in years: `[18, 120]`, `"18.."`, `"..17"`, `"1..17"`. Both ends belong to it, a whole year to its end:
/// who is seventeen and a half belongs to `"..17"`.
#[derive(Debug, Clone, Copy, PartialEq, Serialize, Deserialize)]
#[serde(try_from = "Written", into = "String")]
pub struct Ages {
    from: Option<f64>,
    to: Option<f64>,
}

impl Ages {
    /// Whether patients of every age from `low` to `high` (years, the latter excluded) belong to it, none does, or some do
    /// (nothing).
    pub fn hold(&self, low: f64, high: f64) -> Option<bool> {
        let (from, end) = (self.from.unwrap_or(0.0), self.end());
        if low >= from && high <= end {
            Some(true)
        } else if high <= from || low >= end {
            Some(false)
        } else {
            None
        }
    }

    /// The first age, in years, that is beyond it.
    fn end(&self) -> f64 {
        match self.to {
            None => f64::INFINITY,
            Some(to) if to.fract() == 0.0 => to + 1.0,
            Some(to) => to,
        }
    }

    fn of(from: Option<f64>, to: Option<f64>) -> Result<Self, String> {
        let sound = |end: Option<f64>| end.is_none_or(|end| (0.0..=150.0).contains(&end));
        if (from, to) == (None, None) || !sound(from) || !sound(to) || from.zip(to).is_some_and(|(from, to)| from > to)
        {
            return Err(FORMS.to_owned());
        }
        Ok(Self { from, to })
    }
}

const FORMS: &str =
    "an age is a range in years from 0 to 150, the lower end first, such as [18, 120], \"18..\" or \"..17\"";

impl fmt::Display for Ages {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match (self.from, self.to) {
            (Some(from), Some(to)) => write!(f, "{from} to {to} years"),
            (Some(from), None) => write!(f, "{from} years and older"),
            (None, Some(to)) => write!(f, "up to {to} years"),
            (None, None) => f.write_str("any"),
        }
    }
}

impl From<Ages> for String {
    fn from(ages: Ages) -> Self {
        let end = |end: Option<f64>| end.map(|end| end.to_string()).unwrap_or_default();
        format!("{}..{}", end(ages.from), end(ages.to))
    }
}

/// The forms in which a range is written.
#[derive(Deserialize)]
#[serde(untagged, expecting = "an age is a range in years, such as [18, 120], \"18..\" or \"..17\"")]
enum Written {
    Ends(f64, f64),
    Text(String),
}

impl TryFrom<Written> for Ages {
    type Error = String;

    fn try_from(written: Written) -> Result<Self, String> {
        let text = match written {
            Written::Ends(from, to) => return Self::of(Some(from), Some(to)),
            Written::Text(text) => text,
        };
        let (from, to) = text.split_once("..").ok_or(FORMS)?;
        let end = |text: &str| match text.trim() {
            "" => Ok(None),
            number => number.parse().map(Some).map_err(|_| FORMS.to_owned()),
        };
        // As Rust and others write that the end belongs to it.
        Self::of(end(from)?, end(to.strip_prefix('=').unwrap_or(to))?)
    }
}

/// One sex or a list of them, by the letters of Patient's Sex (0010,0040).
pub(super) fn sexes<'de, D: Deserializer<'de>>(deserializer: D) -> Result<Vec<String>, D::Error> {
    #[derive(Deserialize)]
    #[serde(untagged, expecting = "a list of \"F\", \"M\" and \"O\" (Patient's Sex), such as [\"F\"], is wanted")]
    enum Written {
        One(String),
        Several(Vec<String>),
    }
    let texts = match Written::deserialize(deserializer)? {
        Written::One(text) => vec![text],
        Written::Several(texts) => texts,
    };
    let letter = |text: String| match text.trim().to_uppercase().as_str() {
        "F" | "FEMALE" => Ok("F".to_owned()),
        "M" | "MALE" => Ok("M".to_owned()),
        "O" | "OTHER" => Ok("O".to_owned()),
        _ => Err(D::Error::custom(format!("{text:?} is no sex; write \"F\", \"M\" or \"O\", as Patient's Sex does"))),
    };
    texts.into_iter().map(letter).collect()
}

#[cfg(test)]
mod tests {
    use crate::Manifest;

    #[test]
    fn ages_and_sexes_are_read() {
        let check = |text: &str, in_range: &[(f64, f64)], out: &[(f64, f64)], between: &[(f64, f64)]| {
            let ages = Manifest::parse(text).expect(text).age.expect(text);
            for (rows, expected) in [(in_range, Some(true)), (out, Some(false)), (between, None)] {
                for (low, high) in rows {
                    assert_eq!(ages.hold(*low, *high), expected, "{text} {low} to {high}");
                }
            }
            let again = serde_json::to_string(&ages).unwrap();
            assert_eq!(serde_json::from_str::<super::Ages>(&again).unwrap(), ages, "{again}");
        };
        check(
            "age = [18, 120]",
            &[(18.0, 19.0), (45.0, 46.0), (120.0, 121.0)],
            &[(6.0, 7.0), (17.0, 18.0)],
            &[(17.5, 18.5)],
        );
        check("age = '18..'", &[(18.0, 19.0), (130.0, 131.0)], &[(17.0, 18.0), (0.0, 0.1)], &[]);
        check("age = '..17'", &[(0.0, 0.1), (17.0, 18.0)], &[(18.0, 19.0)], &[(17.5, 18.5)]);
        check("age = '0.5..2'", &[(0.5, 0.6), (2.0, 3.0)], &[(0.25, 0.33), (3.0, 4.0)], &[]);
        check("age = '1..=2.5'", &[(1.0, 2.0)], &[(3.0, 4.0)], &[(2.0, 3.0)]);
        for wrong in
            ["age = '18'", "age = [18]", "age = [120, 18]", "age = '..'", "age = 'adult'", "age = '-1..'", "age = 18"]
        {
            let error = Manifest::parse(&format!("name = 'a'\n{wrong}\n")).expect_err(wrong).to_string();
            assert!(error.contains("line 2") && error.contains("[18, 120]"), "{wrong}: {error}");
        }
        assert_eq!(Manifest::parse("sex = ['F']").unwrap().sex, ["F"]);
        assert_eq!(Manifest::parse("sex = 'male'").unwrap().sex, ["M"]);
        let error = Manifest::parse("name = 'a'\nsex = ['X']\n").unwrap_err().to_string();
        assert!(error.contains("line 2") && error.contains("\"F\""), "{error}");
    }
}
