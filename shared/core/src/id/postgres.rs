//! Ids as a column type: TEXT in Postgres, checked on the way in.

use sqlx::encode::IsNull;
use sqlx::error::BoxDynError;
use sqlx::postgres::{PgArgumentBuffer, PgHasArrayType, PgTypeInfo, PgValueRef};
use sqlx::{Decode, Encode, Postgres, Type};

use super::{Id, Kind};

impl<K: Kind> Type<Postgres> for Id<K> {
    fn type_info() -> PgTypeInfo {
        <str as Type<Postgres>>::type_info()
    }

    fn compatible(ty: &PgTypeInfo) -> bool {
        <str as Type<Postgres>>::compatible(ty)
    }
}

impl<K: Kind> PgHasArrayType for Id<K> {
    fn array_type_info() -> PgTypeInfo {
        <&str as PgHasArrayType>::array_type_info()
    }

    fn array_compatible(ty: &PgTypeInfo) -> bool {
        <&str as PgHasArrayType>::array_compatible(ty)
    }
}

impl<K: Kind> Encode<'_, Postgres> for Id<K> {
    fn encode_by_ref(&self, buf: &mut PgArgumentBuffer) -> Result<IsNull, BoxDynError> {
        <&str as Encode<'_, Postgres>>::encode_by_ref(&&*self.text(), buf)
    }

    fn size_hint(&self) -> usize {
        self.text().len()
    }
}

/// Fails with [`IdError`](super::IdError) for a row that holds something else.
impl<'r, K: Kind> Decode<'r, Postgres> for Id<K> {
    fn decode(value: PgValueRef<'r>) -> Result<Self, BoxDynError> {
        Ok(<&'r str as Decode<'r, Postgres>>::decode(value)?.parse()?)
    }
}
