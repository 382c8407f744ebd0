//! What every document is made from, and what it is once made.

use std::{fmt, str::FromStr};

use dataset::{Instance, Uid};

use crate::{Error, uids::Kind};

/// The moment that drafting started: Content Date and Time (0008,0023), (0008,0033). Passed in: this crate has no clock.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ContentTime(String);

impl ContentTime {
    /// The UTC time of a Unix time, for those who have no local one.
    pub fn from_unix_utc(seconds: u64) -> Self {
        // Days to a civil date, in the proleptic Gregorian calendar whose years begin in March.
        let (days, second) = (seconds / 86_400 + 719_468, seconds % 86_400);
        let (era, day_of_era) = (days / 146_097, days % 146_097);
        let year_of_era = (day_of_era - day_of_era / 1_460 + day_of_era / 36_524 - day_of_era / 146_096) / 365;
        let day_of_year = day_of_era - (365 * year_of_era + year_of_era / 4 - year_of_era / 100);
        let shifted_month = (5 * day_of_year + 2) / 153;
        let day = day_of_year - (153 * shifted_month + 2) / 5 + 1;
        let month = if shifted_month < 10 { shifted_month + 3 } else { shifted_month - 9 };
        let year = year_of_era + era * 400 + u64::from(month <= 2);
        let (hour, minute) = (second / 3_600, second / 60 % 60);
        Self(format!("{year:04}{month:02}{day:02}{hour:02}{minute:02}{:02}", second % 60))
    }

    pub(crate) fn date(&self) -> &str {
        &self.0[..8]
    }

    pub(crate) fn time(&self) -> &str {
        &self.0[8..]
    }
}

impl fmt::Display for ContentTime {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

impl FromStr for ContentTime {
    type Err = Error;

    /// Reads `YYYYMMDDHHMMSS`.
    fn from_str(text: &str) -> Result<Self, Error> {
        if text.len() != 14 || !text.bytes().all(|byte| byte.is_ascii_digit()) {
            return Err(Error::ContentTime);
        }
        let part = |from: usize| text[from..from + 2].parse::<u8>().unwrap_or(u8::MAX);
        let valid = (1..=12).contains(&part(4))
            && (1..=31).contains(&part(6))
            && part(8) < 24
            && part(10) < 60
            && part(12) < 60;
        if valid { Ok(Self(text.to_owned())) } else { Err(Error::ContentTime) }
    }
}

/// What made a report. Every document says all of it.
#[derive(Debug, Clone)]
pub struct Provenance {
    /// The model's name.
    pub model_name: String,
    /// The model's version.
    pub model_version: String,
    /// The digest of its weights.
    pub model_digest: String,
    /// What the model's makers want said with every result, such as that it is a demonstration.
    pub notice: Option<String>,
    /// Which prompt.
    pub prompt_id: String,
    /// How it was decoded: temperature, quantization and the like.
    pub settings: String,
    /// The digest of the rule's settings that are not the default: part of the report's identity.
    pub settings_digest: Option<String>,
    /// The rule that chose the model.
    pub rule: String,
    /// The report's version: another one for other content.
    pub version: u32,
    /// Device Observer UID (121012,DCM): stable for this installation.
    pub device_uid: Uid,
    /// Device Serial Number (0018,1000).
    pub device_serial: String,
    /// Software Versions (0018,1020).
    pub software_version: String,
    /// Unique Device Identifier of the software as a medical device (UDI Sequence, 0018,100A), where it has one.
    pub udi: Option<String>,
    /// When drafting started.
    pub content_time: ContentTime,
}

/// An instance that was analysed, or an earlier document.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub struct EvidenceItem {
    /// Series Instance UID (0020,000E).
    pub series_instance_uid: Uid,
    /// SOP Class UID (0008,0016).
    pub sop_class_uid: Uid,
    /// SOP Instance UID (0008,0018).
    pub sop_instance_uid: Uid,
    /// Digest of the data set, in hexadecimal: part of the report's identity.
    pub digest: String,
}

/// What a report was made from.
#[derive(Debug, Clone)]
pub struct Source<'a> {
    /// The instance whose patient, study and order the report takes over, and which illustrates its findings.
    pub representative: &'a Instance,
    /// Every instance that was analysed.
    pub evidence: Vec<EvidenceItem>,
    /// The newest documents of earlier drafts, in the same study. An SR document names the one of its own kind, else the
    /// same report in another SOP class, else the text report of the earlier draft. What is no SR has no attribute for it.
    pub predecessors: Vec<(Kind, EvidenceItem)>,
}

/// Completion Flag (0040,A491).
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub enum Completion {
    /// All stages ran on the whole study.
    #[default]
    Complete,
    /// Some did not; says which (Completion Flag Description).
    Partial(String),
}

/// A finished DICOM object.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Document {
    /// Which of the documents of a reading.
    pub kind: Kind,
    /// SOP Class UID (0008,0016).
    pub sop_class_uid: Uid,
    /// SOP Instance UID (0008,0018).
    pub sop_instance_uid: Uid,
    /// Series Instance UID (0020,000E).
    pub series_instance_uid: Uid,
    /// The Part 10 file.
    pub file: Vec<u8>,
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn content_times_are_civil_times() {
        assert_eq!(ContentTime::from_unix_utc(0).to_string(), "19700101000000");
        assert_eq!(ContentTime::from_unix_utc(951_782_400).to_string(), "20000229000000");
        assert_eq!(ContentTime::from_unix_utc(1_785_579_300).to_string(), "20260801101500");
        assert!("20260801101500".parse::<ContentTime>().is_ok());
        for bad in ["", "2026", "20261301101500", "20260801251500", "2026080110150x", "２０２６０８０１"] {
            assert!(bad.parse::<ContentTime>().is_err(), "{bad}");
        }
    }
}
