use dicom_object::InMemDicomObject;
use dicom_transfer_syntax_registry::{TransferSyntaxIndex, TransferSyntaxRegistry};

use crate::{Error, Limits, TransferSyntax, gate};

/// Parses a data set that is no file: that of a command (PS3.7 section 6.3). Gate first, then the recursive parser.
///
/// Errors with [`Error::Gate`] for what may not pass, [`Error::DataSet`] for what cannot be parsed, and
/// [`Error::RetiredTransferSyntax`].
pub fn parse_data_set(bytes: &[u8], syntax: TransferSyntax, limits: &Limits) -> Result<InMemDicomObject, Error> {
    let scan = gate::scan(bytes, Some(bytes.len() as u64), syntax, limits)?;
    if scan.has_undefined_length_un {
        return Err(Error::DataSet);
    }
    let parser = TransferSyntaxRegistry.get(syntax.uid()).ok_or(Error::RetiredTransferSyntax(syntax.uid()))?;
    // The parser's own message may quote values.
    InMemDicomObject::read_dataset_with_ts(bytes, parser).map_err(|_| Error::DataSet)
}
