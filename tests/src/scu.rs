//! A storage SCU of our own: it knows, for each instance, whether it was acknowledged.

use std::{io::Write, net::TcpStream, time::Duration};

use anyhow::{Context, Result, bail};
use dicom_dictionary_std::uids;
use dicom_ul::{
    association::client::{ClientAssociation, ClientAssociationOptions},
    pdu::{PDataValue, PDataValueType, Pdu},
};

use crate::{
    command::{C_ECHO_RQ, C_ECHO_RSP, C_STORE_RQ, C_STORE_RSP, Command, DATA_SET, NO_DATA_SET, element},
    instance::Instance,
};

/// An open association with a storage SCP.
pub struct Scu {
    association: ClientAssociation<TcpStream>,
    message_id: u16,
}

const PATIENCE: Duration = Duration::from_secs(30);

impl Scu {
    /// Opens an association for C-ECHO.
    ///
    /// # Errors
    /// When it is refused or nobody listens.
    pub fn connect(address: &str, calling: &str, called: &str) -> Result<Self> {
        Self::for_instances(address, calling, called, &[])
    }

    /// Opens an association for C-ECHO and for storing `instances`, each in the transfer syntax it has.
    ///
    /// # Errors
    /// As [`Self::connect`].
    pub fn for_instances(address: &str, calling: &str, called: &str, instances: &[Instance]) -> Result<Self> {
        let mut contexts = vec![(uids::VERIFICATION, uids::IMPLICIT_VR_LITTLE_ENDIAN)];
        for instance in instances {
            let context = (instance.sop_class_uid.as_str(), instance.transfer_syntax_uid.as_str());
            if !contexts.contains(&context) {
                contexts.push(context);
            }
        }
        let mut options = ClientAssociationOptions::new()
            .calling_ae_title(calling)
            .called_ae_title(called)
            .connection_timeout(PATIENCE)
            .read_timeout(PATIENCE)
            .write_timeout(PATIENCE);
        for (abstract_syntax, transfer_syntax) in contexts {
            options = options.with_presentation_context(abstract_syntax, vec![transfer_syntax]);
        }
        let mut association = options.establish(address)?;
        association.inner_stream().set_nodelay(true)?;
        Ok(Self { association, message_id: 0 })
    }

    /// C-ECHO; returns the status.
    ///
    /// # Errors
    /// When the association breaks.
    pub fn echo(&mut self) -> Result<u16> {
        let context = self.context(uids::VERIFICATION, uids::IMPLICIT_VR_LITTLE_ENDIAN)?;
        let request = self.request(C_ECHO_RQ, uids::VERIFICATION).number(element::DATA_SET_TYPE, NO_DATA_SET);
        self.send_command(context, &request)?;
        self.status(C_ECHO_RSP)
    }

    /// C-STORE; returns the status.
    ///
    /// # Errors
    /// When the association breaks, or the SCP did not accept the instance's SOP class and transfer syntax.
    pub fn store(&mut self, instance: &Instance) -> Result<u16> {
        let context = self.context(&instance.sop_class_uid, &instance.transfer_syntax_uid)?;
        let request = self
            .request(C_STORE_RQ, &instance.sop_class_uid)
            .number(element::PRIORITY, 0)
            .number(element::DATA_SET_TYPE, DATA_SET)
            .uid(element::AFFECTED_SOP_INSTANCE_UID, &instance.sop_instance_uid);
        self.send_command(context, &request)?;
        let mut writer = self.association.send_pdata(context);
        writer.write_all(&instance.data_set)?;
        writer.finish()?;
        self.status(C_STORE_RSP)
    }

    /// The start of a C-STORE whose last fragment never comes: the command and the data set, without the end.
    ///
    /// # Errors
    /// As [`Self::store`].
    pub fn begin_store(&mut self, instance: &Instance) -> Result<()> {
        let context = self.context(&instance.sop_class_uid, &instance.transfer_syntax_uid)?;
        let request = self
            .request(C_STORE_RQ, &instance.sop_class_uid)
            .number(element::PRIORITY, 0)
            .number(element::DATA_SET_TYPE, DATA_SET)
            .uid(element::AFFECTED_SOP_INSTANCE_UID, &instance.sop_instance_uid);
        self.send_command(context, &request)?;
        for chunk in instance.data_set.chunks(8192) {
            let data = vec![PDataValue {
                presentation_context_id: context,
                value_type: PDataValueType::Data,
                is_last: false,
                data: chunk.to_vec(),
            }];
            self.association.send(&Pdu::PData { data })?;
        }
        Ok(())
    }

    /// Ends the association as it should be ended.
    ///
    /// # Errors
    /// When the peer does not answer.
    pub fn release(self) -> Result<()> {
        Ok(self.association.release()?)
    }

    fn request(&mut self, field: u16, sop_class: &str) -> Command {
        self.message_id = self.message_id.wrapping_add(1);
        Command::default()
            .uid(element::AFFECTED_SOP_CLASS_UID, sop_class)
            .number(element::COMMAND_FIELD, field)
            .number(element::MESSAGE_ID, self.message_id)
    }

    fn context(&self, abstract_syntax: &str, transfer_syntax: &str) -> Result<u8> {
        let contexts = self.association.presentation_contexts();
        let found = contexts.iter().find(|context| {
            context.reason == dicom_ul::pdu::PresentationContextResultReason::Acceptance
                && context.abstract_syntax == abstract_syntax
                && context.transfer_syntax == transfer_syntax
        });
        found.map(|context| context.id).with_context(|| format!("not accepted: {abstract_syntax} as {transfer_syntax}"))
    }

    fn send_command(&mut self, context: u8, command: &Command) -> Result<()> {
        let data = vec![PDataValue {
            presentation_context_id: context,
            value_type: PDataValueType::Command,
            is_last: true,
            data: command.encode()?,
        }];
        Ok(self.association.send(&Pdu::PData { data })?)
    }

    fn status(&mut self, field: u16) -> Result<u16> {
        let mut bytes = Vec::new();
        loop {
            match self.association.receive()? {
                Pdu::PData { data } => {
                    for value in data {
                        bytes.extend(value.data);
                        if value.is_last {
                            let response = Command::decode(&bytes)?;
                            if response.get_number(element::COMMAND_FIELD)? != field
                                || response.get_number(element::MESSAGE_ID_RESPONDED_TO)? != self.message_id
                            {
                                bail!("the response does not belong to the request");
                            }
                            return response.get_number(element::STATUS);
                        }
                    }
                }
                other => bail!("expected a response, got {}", other.short_description()),
            }
        }
    }
}
