//! What is read from a certificate: whom it names, how long it holds, how long its key is (RFC 5280).

use std::{fmt, str::FromStr, time::SystemTime};

use sha2::{Digest, Sha256};
use x509_parser::{
    certificate::X509Certificate, prelude::FromDer, public_key::PublicKey, time::ASN1Time, x509::X509Version,
};

use crate::TlsProfile;

/// Which certificates a peer may present. All of them are verified against the configured authority first.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum CertificatePattern {
    /// The SHA-256 digest of the certificate as it stands in the handshake (its DER form).
    Fingerprint([u8; 32]),
    /// Attributes of the subject. Every one of them must be there, whatever else is; values are compared letter by
    /// letter.
    Subject(Vec<Attribute>),
}

/// An attribute of a distinguished name.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Attribute {
    /// Its type, as a dotted object identifier.
    oid: String,
    value: String,
}

/// The text is no certificate pattern.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error(
    "{text:?} names no certificate: {problem}; write \"sha256:\" and the 64 digits of its fingerprint, or attributes of \
     its subject such as \"CN=pacs,O=Hospital\""
)]
pub struct CertificatePatternError {
    text: String,
    problem: String,
}

/// The types that RFC 4514 has names for, and those that certificates of devices have besides.
const ATTRIBUTE_TYPES: &[(&str, &str)] = &[
    ("CN", "2.5.4.3"),
    ("SERIALNUMBER", "2.5.4.5"),
    ("C", "2.5.4.6"),
    ("L", "2.5.4.7"),
    ("ST", "2.5.4.8"),
    ("STREET", "2.5.4.9"),
    ("O", "2.5.4.10"),
    ("OU", "2.5.4.11"),
    ("DC", "0.9.2342.19200300.100.1.25"),
    ("UID", "0.9.2342.19200300.100.1.1"),
    ("EMAILADDRESS", "1.2.840.113549.1.9.1"),
];

impl FromStr for CertificatePattern {
    type Err = CertificatePatternError;

    /// Reads `sha256:` with 64 hexadecimal digits, colons between them ignored, the line that `openssl x509 -fingerprint
    /// -sha256` prints (`sha256 Fingerprint=BA:…`), or a distinguished name after RFC 4514.
    fn from_str(text: &str) -> Result<Self, CertificatePatternError> {
        let scheme = ["sha256:", "sha256 fingerprint=", "sha-256 fingerprint="].into_iter().find_map(|scheme| {
            let (found, digits) = text.trim().split_at_checked(scheme.len())?;
            found.eq_ignore_ascii_case(scheme).then_some(digits)
        });
        let parsed = match scheme {
            Some(digits) => {
                fingerprint(digits).map(Self::Fingerprint).ok_or_else(|| "it has not 64 hexadecimal digits".to_owned())
            }
            None => subject(text).map(Self::Subject),
        };
        parsed.map_err(|problem| CertificatePatternError { text: text.to_owned(), problem })
    }
}

fn fingerprint(digits: &str) -> Option<[u8; 32]> {
    let digits: Vec<u8> = digits
        .bytes()
        .filter(|byte| !matches!(byte, b':' | b' '))
        .map(|byte| char::from(byte).to_digit(16).and_then(|digit| u8::try_from(digit).ok()))
        .collect::<Option<_>>()?;
    let bytes: Vec<u8> = digits.chunks_exact(2).map(|pair| pair[0] << 4 | pair[1]).collect();
    if digits.len() == 64 { bytes.try_into().ok() } else { None }
}

fn subject(text: &str) -> Result<Vec<Attribute>, String> {
    separated(text)?.iter().map(|part| attribute(part)).collect()
}

/// Cuts a distinguished name at the commas and plus signs that are not escaped. Which of the two it was matters only for
/// the order, and that is not compared.
fn separated(text: &str) -> Result<Vec<&str>, String> {
    let (mut parts, mut start, mut escaped) = (Vec::new(), 0, false);
    for (at, letter) in text.char_indices() {
        match letter {
            _ if escaped => escaped = false,
            '\\' => escaped = true,
            '"' | ';' | '<' | '>' => return Err(format!("{letter} needs a backslash before it")),
            ',' | '+' => {
                parts.push(&text[start..at]);
                start = at + 1;
            }
            _ => {}
        }
    }
    parts.push(&text[start..]);
    Ok(parts)
}

fn attribute(part: &str) -> Result<Attribute, String> {
    let (kind, value) = part.split_once('=').ok_or_else(|| format!("{part:?} is no attribute with a value"))?;
    let kind = kind.trim();
    let named = ATTRIBUTE_TYPES.iter().find(|(name, _)| name.eq_ignore_ascii_case(kind)).map(|(_, oid)| *oid);
    let dotted = !kind.is_empty() && kind.bytes().all(|byte| byte.is_ascii_digit() || byte == b'.');
    let oid = named.or(dotted.then_some(kind)).ok_or_else(|| {
        let names: Vec<_> = ATTRIBUTE_TYPES.iter().map(|(name, _)| *name).collect();
        format!("{kind:?} is none of the attribute types {} and no object identifier", names.join(", "))
    })?;
    let value = unescaped(value)?;
    if value.is_empty() { Err(format!("{kind} has no value")) } else { Ok(Attribute { oid: oid.to_owned(), value }) }
}

/// A value without its escapes, and without the spaces around it that are not escaped (RFC 4514 section 2.4).
fn unescaped(value: &str) -> Result<String, String> {
    let value = value.trim_start_matches(' ');
    if value.starts_with('#') {
        return Err("values in hexadecimal notation are not understood".to_owned());
    }
    // What a space before this length belongs to was escaped.
    let (mut bytes, mut kept) = (Vec::new(), 0);
    let mut rest = value.as_bytes();
    while let Some((&byte, after)) = rest.split_first() {
        rest = after;
        if byte != b'\\' {
            bytes.push(byte);
            kept = if byte == b' ' { kept } else { bytes.len() };
            continue;
        }
        let hexadecimal = |digit: u8| char::from(digit).to_digit(16).and_then(|digit| u8::try_from(digit).ok());
        match *rest {
            [high, low, ref after @ ..] if hexadecimal(high).is_some() && hexadecimal(low).is_some() => {
                bytes.extend(hexadecimal(high).zip(hexadecimal(low)).map(|(high, low)| high << 4 | low));
                rest = after;
            }
            [special, ref after @ ..] if special.is_ascii_punctuation() || special == b' ' => {
                bytes.push(special);
                rest = after;
            }
            _ => return Err("a backslash stands before nothing that needs one".to_owned()),
        }
        kept = bytes.len();
    }
    bytes.truncate(kept);
    String::from_utf8(bytes).map_err(|_| "a value is no UTF-8 text".to_owned())
}

/// What is said of a certificate of X.509 version 1, before who needs which.
pub(crate) const OF_OLD_VERSION: &str = "is of X.509 version 1, which has no extensions";
/// What is said of an authority's certificate where a device's belongs.
pub(crate) const OF_AN_AUTHORITY: &str =
    "is an authority's (CA:TRUE), which may sign others but not be shown by a device";

/// What we look at of a certificate.
#[derive(Debug, Clone, PartialEq)]
pub(crate) struct Certificate {
    fingerprint: [u8; 32],
    subject: Vec<Attribute>,
    not_before: ASN1Time,
    not_after: ASN1Time,
    key: Key,
    /// Whether it is of version 3 of X.509.
    is_version_3: bool,
    /// What its basic constraints say of it; nothing where it has none.
    is_authority: Option<bool>,
}

/// The public key's algorithm, and its length in bits.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Key {
    Rsa(usize),
    EllipticCurve(usize),
    Other,
}

impl Certificate {
    /// Reads the DER form; `None` for what is no certificate.
    pub(crate) fn parse(der: &[u8]) -> Option<Self> {
        let (rest, certificate) = X509Certificate::from_der(der).ok()?;
        if !rest.is_empty() {
            return None;
        }
        // A value in an old string type can never match, which is on the safe side.
        let readable = |attribute: &x509_parser::x509::AttributeTypeAndValue<'_>| {
            let value = attribute.as_str().ok()?.to_owned();
            Some(Attribute { oid: attribute.attr_type().to_id_string(), value })
        };
        let key = match certificate.public_key().parsed() {
            Ok(PublicKey::RSA(key)) => Key::Rsa(key.key_size()),
            Ok(PublicKey::EC(key)) => Key::EllipticCurve(key.key_size()),
            _ => Key::Other,
        };
        Some(Self {
            fingerprint: Sha256::digest(der).into(),
            subject: certificate.subject().iter_attributes().filter_map(readable).collect(),
            not_before: certificate.validity().not_before,
            not_after: certificate.validity().not_after,
            key,
            is_version_3: certificate.version() == X509Version::V3,
            is_authority: certificate.basic_constraints().ok().flatten().map(|constraints| constraints.value.ca),
        })
    }

    /// Whether a pattern names it.
    pub(crate) fn matches(&self, pattern: &CertificatePattern) -> bool {
        match pattern {
            CertificatePattern::Fingerprint(fingerprint) => self.fingerprint == *fingerprint,
            CertificatePattern::Subject(attributes) => {
                !attributes.is_empty() && attributes.iter().all(|wanted| self.subject.contains(wanted))
            }
        }
    }

    /// What is wrong with its period at a moment.
    pub(crate) fn period_problem(&self, now: SystemTime) -> Option<String> {
        let now = seconds(now);
        if now > self.not_after.timestamp() {
            Some(format!("expired on {}", date(self.not_after)))
        } else if now < self.not_before.timestamp() {
            Some(format!("is not valid before {} (or this machine's clock is wrong)", date(self.not_before)))
        } else {
            None
        }
    }

    /// The days left until it expires; none when it has.
    pub(crate) fn days_left(&self, now: SystemTime) -> u64 {
        u64::try_from(self.not_after.timestamp().saturating_sub(seconds(now))).unwrap_or(0) / (24 * 3600)
    }

    /// What is wrong with its form, such that nobody takes it who verifies it as RFC 5280 says.
    pub(crate) fn form_problem(&self) -> Option<&'static str> {
        if self.is_version_3 { None } else { Some(OF_OLD_VERSION) }
    }

    /// Whether it is an authority's, by its own word.
    pub(crate) fn is_authority(&self) -> Option<bool> {
        self.is_authority
    }

    /// Why the profile does not allow its key (PS3.15 B.12 and B.13; RFC 9325 section 4.5).
    pub(crate) fn key_problem(&self, profile: TlsProfile) -> Option<String> {
        match self.key {
            Key::Rsa(2048..) | Key::EllipticCurve(256..) => None,
            Key::Rsa(bits) => Some(format!("has an RSA key of {bits} bits, and 2048 is the least")),
            Key::EllipticCurve(bits) => Some(format!("has an elliptic curve key of {bits} bits, and 256 is the least")),
            Key::Other if profile == TlsProfile::Bcp195 => None,
            Key::Other => Some("has a key that is neither RSA nor of a NIST curve".to_owned()),
        }
    }
}

fn seconds(time: SystemTime) -> i64 {
    let since = time.duration_since(SystemTime::UNIX_EPOCH).unwrap_or_default();
    i64::try_from(since.as_secs()).unwrap_or(i64::MAX)
}

fn date(time: ASN1Time) -> String {
    time.to_datetime().date().to_string()
}

/// The fingerprint, in the form that a configuration takes. The subject may be a person's name.
impl fmt::Display for Certificate {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("sha256")?;
        self.fingerprint.iter().try_for_each(|byte| write!(f, ":{byte:02X}"))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn patterns_are_read() {
        // As OpenSSL 1.1 and 3 print it, too.
        for scheme in ["SHA256:", "sha256:", "SHA256 Fingerprint=", "sha256 Fingerprint="] {
            let fingerprint = format!("{scheme}{}", "Ab:".repeat(32));
            assert_eq!(fingerprint.parse(), Ok(CertificatePattern::Fingerprint([0xab; 32])), "{scheme}");
        }
        let check = |text: &str, expected: &[(&str, &str)]| {
            let attributes =
                expected.iter().map(|&(oid, value)| Attribute { oid: oid.to_owned(), value: value.to_owned() });
            assert_eq!(text.parse(), Ok(CertificatePattern::Subject(attributes.collect())), "{text}");
        };
        check("CN=pacs,O=Hospital", &[("2.5.4.3", "pacs"), ("2.5.4.10", "Hospital")]);
        check("cn = pacs , O = Hospital am See ", &[("2.5.4.3", "pacs"), ("2.5.4.10", "Hospital am See")]);
        check("OU=a+1.2.3=b", &[("2.5.4.11", "a"), ("1.2.3", "b")]);
        check("CN=a\\,b\\+c\\\\ \\ ,O=M\\C3\\BCnchen", &[("2.5.4.3", "a,b+c\\  "), ("2.5.4.10", "München")]);
        check("CN=a=b", &[("2.5.4.3", "a=b")]);
    }

    #[test]
    fn what_is_no_pattern_says_what_is_wrong() {
        let check = |text: &str, expected: &str| {
            let said = text.parse::<CertificatePattern>().unwrap_err().to_string();
            assert!(said.contains(expected) && said.contains("CN=pacs"), "{text}: {said}");
        };
        check("", "no attribute");
        check("pacs", "no attribute");
        check("CN=", "CN has no value");
        check("CN=a,,O=b", "no attribute");
        check("XY=a", "\"XY\" is none of");
        check("CN=\"a\"", "needs a backslash");
        check("CN=#0403", "hexadecimal notation");
        check("CN=a\\", "backslash");
        check("CN=\\ff", "UTF-8");
        check("sha256:AB", "64 hexadecimal digits");
        check("sha256 Fingerprint=AB", "64 hexadecimal digits");
        check(&format!("sha256:{}", "xy".repeat(32)), "64 hexadecimal digits");
        check(&format!("sha256:{}", "ab".repeat(33)), "64 hexadecimal digits");
    }
}
