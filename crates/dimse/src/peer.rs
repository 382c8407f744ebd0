use std::{fmt, net::IpAddr, str::FromStr};

use ipnet::{IpNet, Ipv4Net};

use crate::{CertificatePattern, certificate::Certificate};

/// An application entity title: 1 to 16 characters of the default repertoire, no backslash and no control character,
/// spaces around it not significant (PS3.5 section 6.2, AE).
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub struct AeTitle(String);

/// The text is no application entity title.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("an AE title has 1 to 16 ASCII characters, no backslash and no control characters")]
pub struct AeTitleError;

impl AeTitle {
    /// The title without padding.
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

impl FromStr for AeTitle {
    type Err = AeTitleError;

    fn from_str(text: &str) -> Result<Self, AeTitleError> {
        let text = text.trim_matches(' ');
        let allowed = |byte: u8| matches!(byte, b' '..=b'~') && byte != b'\\';
        if (1..=16).contains(&text.len()) && text.bytes().all(allowed) {
            Ok(Self(text.to_owned()))
        } else {
            Err(AeTitleError)
        }
    }
}

impl fmt::Display for AeTitle {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

/// Who may associate: the certificate first, else the address, because both are harder to claim than a title; the
/// calling AE title second.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Peer {
    /// What logs and rules call it.
    pub name: String,
    /// The certificates that it presents, any one of them. When there are some, it is known by nothing else: it must come
    /// over TLS.
    pub certificates: Vec<CertificatePattern>,
    /// The networks that it calls from. None, for a peer that is known by its certificate: from anywhere.
    pub addresses: Vec<IpNet>,
    /// The calling AE titles it uses: `*` stands for any characters, `?` for any one.
    pub ae_title: String,
    /// Its associations open at a time; one more is told "local limit exceeded", and to try later.
    pub max_associations: usize,
}

impl Peer {
    /// The associations that a peer may have open unless told otherwise.
    pub const MAX_ASSOCIATIONS: usize = 32;

    /// Who is let in when nobody is configured: any title, from this machine only.
    pub fn loopback() -> Self {
        let loopback = |text: &str| text.parse::<IpNet>().ok();
        Self {
            name: "loopback".to_owned(),
            certificates: Vec::new(),
            addresses: [loopback("127.0.0.0/8"), loopback("::1/128")].into_iter().flatten().collect(),
            ae_title: "*".to_owned(),
            max_associations: Self::MAX_ASSOCIATIONS,
        }
    }

    /// Whether it may call from this address.
    pub fn has_address(&self, address: IpAddr) -> bool {
        // An IPv4 caller on a dual-stack listener comes as ::ffff:a.b.c.d.
        let address = address.to_canonical();
        let anywhere = self.addresses.is_empty() && !self.certificates.is_empty();
        anywhere || self.addresses.iter().any(|network| canonical(*network).contains(&address))
    }

    /// Whether it may call itself that.
    pub fn has_ae_title(&self, calling: &str) -> bool {
        matches(self.ae_title.trim().as_bytes(), calling.as_bytes())
    }

    /// Whether it may present that certificate.
    pub(crate) fn has_certificate(&self, certificate: &Certificate) -> bool {
        self.certificates.iter().any(|pattern| certificate.matches(pattern))
    }
}

/// A network of IPv4 addresses that is written as IPv6 (`::ffff:10.1.2.0/120`), as the IPv4 one that it is.
fn canonical(network: IpNet) -> IpNet {
    let mapped = match network {
        IpNet::V6(mapped) => mapped,
        IpNet::V4(_) => return network,
    };
    let length = mapped.prefix_len().checked_sub(96);
    let address = mapped.addr().to_ipv4_mapped();
    length.zip(address).and_then(|(length, address)| Ipv4Net::new(address, length).ok()).map_or(network, IpNet::V4)
}

/// Matches a pattern without recursion: on a mismatch the last `*` takes one byte more.
fn matches(pattern: &[u8], text: &[u8]) -> bool {
    let (mut at, mut in_text) = (0, 0);
    let mut star = None;
    while in_text < text.len() {
        match pattern.get(at) {
            Some(b'*') => {
                star = Some((at, in_text));
                at += 1;
            }
            Some(&byte) if byte == b'?' || byte == text[in_text] => {
                at += 1;
                in_text += 1;
            }
            _ => {
                let Some((star_at, taken)) = star else { return false };
                star = Some((star_at, taken + 1));
                at = star_at + 1;
                in_text = taken + 1;
            }
        }
    }
    pattern[at..].iter().all(|&byte| byte == b'*')
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn ae_titles_are_checked_and_trimmed() {
        assert_eq!(" PACS 1 ".parse::<AeTitle>().unwrap().as_str(), "PACS 1");
        for bad in ["", "    ", "SEVENTEEN_LETTERS", "A\\B", "A\nB", "PÄCS"] {
            assert_eq!(bad.parse::<AeTitle>(), Err(AeTitleError), "{bad:?}");
        }
    }

    #[test]
    fn patterns_match_as_globs() {
        let check = |pattern: &str, title: &str| matches(pattern.as_bytes(), title.as_bytes());
        for (pattern, title) in [("*", ""), ("*", "PACS"), ("PACS*", "PACS"), ("PACS*", "PACS_2"), ("CT?", "CT1")] {
            assert!(check(pattern, title), "{pattern} {title}");
        }
        for (pattern, title) in [("*A*B*", "xAyBz"), ("*AB", "AAB"), ("?*?", "ab"), ("a*b*c", "abbc")] {
            assert!(check(pattern, title), "{pattern} {title}");
        }
        for (pattern, title) in
            [("", "A"), ("PACS", "PACS2"), ("CT?", "CT"), ("CT?", "CT12"), ("pacs", "PACS"), ("*AB", "ABA")]
        {
            assert!(!check(pattern, title), "{pattern} {title}");
        }
    }

    #[test]
    fn addresses_match_by_network_also_when_mapped_into_ipv6() {
        let peer = Peer { addresses: vec!["10.1.2.0/24".parse().unwrap()], ..Peer::loopback() };
        assert!(peer.has_address("10.1.2.3".parse().unwrap()));
        assert!(peer.has_address("::ffff:10.1.2.3".parse().unwrap()));
        assert!(!peer.has_address("10.1.3.3".parse().unwrap()));
        for (written, length) in [("::ffff:10.1.2.0/120", "24"), ("::ffff:10.1.2.3/128", "32")] {
            let peer = Peer { addresses: vec![written.parse().unwrap()], ..Peer::loopback() };
            assert!(peer.has_address("10.1.2.3".parse().unwrap()), "{written}");
            assert!(peer.has_address("::ffff:10.1.2.3".parse().unwrap()), "{written}");
            assert_eq!(peer.has_address("10.1.2.4".parse().unwrap()), length == "24", "{written}");
            assert!(!peer.has_address("10.1.3.3".parse().unwrap()), "{written}");
        }
        assert!(Peer::loopback().has_address("::1".parse().unwrap()));
        assert!(!Peer::loopback().has_address("192.168.0.1".parse().unwrap()));
    }
}
