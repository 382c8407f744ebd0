//! What was kept is what is read: every instance is compared with what the spool says of it when it is opened. There is no
//! other way from a file into a reading.

use std::path::Path;

use dataset::{Error, Header, Limits};

use super::{End, StudyInstance};

/// What the spool's row says of an instance besides its digest.
#[derive(Clone)]
pub(crate) struct KeptAs {
    /// Study Instance UID.
    pub(crate) study_instance_uid: String,
    /// SOP Instance UID.
    pub(crate) sop_instance_uid: String,
    /// Transfer Syntax UID.
    pub(crate) transfer_syntax_uid: String,
}

impl KeptAs {
    fn is(&self, header: &Header) -> bool {
        header.study_instance_uid.as_str() == self.study_instance_uid
            && header.sop_instance_uid.as_str() == self.sop_instance_uid
            && header.transfer_syntax.uid() == self.transfer_syntax_uid
    }
}

/// The header of an instance whose bytes are those that were received; of the study and the instance that its row names.
pub(super) fn header(instance: &StudyInstance, limits: &Limits) -> Result<Header, End> {
    let path = &instance.path;
    match opened(instance, limits) {
        Ok(header) => Ok(header),
        Err(Error::Damaged) => Err(damaged(path)),
        Err(error) => {
            let reason = format!("{} cannot be read back: {error}", path.display());
            Err(End::Held { what: "an instance cannot be read back", reason, rule: None })
        }
    }
}

/// The same, with the error as it is.
pub(super) fn opened(instance: &StudyInstance, limits: &Limits) -> Result<Header, Error> {
    let path = &instance.path;
    match &instance.kept_as {
        Some(kept) => Header::open_kept(path, &instance.digest, limits)
            .and_then(|header| if kept.is(&header) { Ok(header) } else { Err(Error::Damaged) }),
        // A file that is read where it lies: nobody said earlier what it should hold.
        None => Header::open(path, limits),
    }
}

fn damaged(path: &Path) -> End {
    let reason = format!(
        "{} is damaged on the disk: it does not hold the bytes that were received; look at the disk (`preread doctor --scrub` \
         names every such file), put the file back from a backup, and then `preread queue retry`",
        path.display()
    );
    End::Held { what: "an instance is damaged on the disk", reason, rule: None }
}
