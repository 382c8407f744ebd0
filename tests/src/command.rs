//! DIMSE command sets (PS3.7 section 6.3.1 and annex E), written from the standard and not shared with the program
//! under test, so that a mistake there is not repeated here.

use anyhow::{Context, Result, bail};

pub(crate) const C_STORE_RQ: u16 = 0x0001;
pub(crate) const C_STORE_RSP: u16 = 0x8001;
pub(crate) const C_ECHO_RQ: u16 = 0x0030;
pub(crate) const C_ECHO_RSP: u16 = 0x8030;
pub(crate) const NO_DATA_SET: u16 = 0x0101;
pub(crate) const DATA_SET: u16 = 0x0001;

/// Element numbers of group 0000.
pub(crate) mod element {
    pub(crate) const AFFECTED_SOP_CLASS_UID: u16 = 0x0002;
    pub(crate) const COMMAND_FIELD: u16 = 0x0100;
    pub(crate) const MESSAGE_ID: u16 = 0x0110;
    pub(crate) const MESSAGE_ID_RESPONDED_TO: u16 = 0x0120;
    pub(crate) const PRIORITY: u16 = 0x0700;
    pub(crate) const DATA_SET_TYPE: u16 = 0x0800;
    pub(crate) const STATUS: u16 = 0x0900;
    pub(crate) const ERROR_COMMENT: u16 = 0x0902;
    pub(crate) const AFFECTED_SOP_INSTANCE_UID: u16 = 0x1000;
}

/// The elements of a command set after the group length, in order.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub(crate) struct Command(Vec<(u16, Vec<u8>)>);

impl Command {
    pub(crate) fn number(mut self, element: u16, value: u16) -> Self {
        self.0.push((element, value.to_le_bytes().to_vec()));
        self
    }

    pub(crate) fn uid(mut self, element: u16, value: &str) -> Self {
        let mut bytes = value.as_bytes().to_vec();
        if bytes.len() % 2 == 1 {
            bytes.push(0);
        }
        self.0.push((element, bytes));
        self
    }

    pub(crate) fn text(mut self, element: u16, value: &str) -> Self {
        let mut bytes = value.as_bytes().to_vec();
        if bytes.len() % 2 == 1 {
            bytes.push(b' ');
        }
        self.0.push((element, bytes));
        self
    }

    pub(crate) fn get_number(&self, element: u16) -> Result<u16> {
        let bytes = self.get(element)?;
        let bytes = <[u8; 2]>::try_from(bytes).with_context(|| format!("(0000,{element:04x}) is not two bytes"))?;
        Ok(u16::from_le_bytes(bytes))
    }

    pub(crate) fn get_uid(&self, element: u16) -> Result<String> {
        let text = std::str::from_utf8(self.get(element)?)?;
        Ok(text.trim_end_matches(['\0', ' ']).to_owned())
    }

    fn get(&self, element: u16) -> Result<&[u8]> {
        let found = self.0.iter().find(|(number, _)| *number == element);
        found.map(|(_, bytes)| bytes.as_slice()).with_context(|| format!("the command has no (0000,{element:04x})"))
    }

    pub(crate) fn encode(&self) -> Result<Vec<u8>> {
        let mut body = Vec::new();
        for (element, value) in &self.0 {
            body.extend([0, 0]);
            body.extend(element.to_le_bytes());
            body.extend(u32::try_from(value.len())?.to_le_bytes());
            body.extend(value);
        }
        let mut bytes = vec![0, 0, 0, 0, 4, 0, 0, 0];
        bytes.extend(u32::try_from(body.len())?.to_le_bytes());
        bytes.extend(body);
        Ok(bytes)
    }

    pub(crate) fn decode(mut bytes: &[u8]) -> Result<Self> {
        let mut elements = Vec::new();
        while let Some((head, rest)) = bytes.split_first_chunk::<8>() {
            let element = u16::from_le_bytes([head[2], head[3]]);
            let length = u32::from_le_bytes([head[4], head[5], head[6], head[7]]) as usize;
            if head[..2] != [0, 0] || length > rest.len() {
                bail!("not a command set");
            }
            elements.push((element, rest[..length].to_vec()));
            bytes = &rest[length..];
        }
        Ok(Self(elements))
    }
}
