//! Parameters of operations, and what is true of all of them.

use utoipa::openapi::{
    RefOr, Schema,
    extensions::Extensions,
    path::{Parameter, ParameterBuilder, ParameterIn},
    schema::{Object, ObjectBuilder, SchemaType, Type},
};

/// Text as the query may hold it: PostgreSQL has no place for U+0000.
const STORABLE: &str = r"^[^\u0000]*$";
/// What a header may be about a tenant: what can be seen.
const VISIBLE: &str = "^[ -~]*$";
/// A tenant's name: no control character, and not blank.
const TENANT: &str = r"^[^\u0000-\u001F\u007F-\u009F]*[^\s\u0000-\u001F\u007F-\u009F][^\u0000-\u001F\u007F-\u009F]*$";

/// Says of a parameter what the extractors make true of every one in its place. An operation that does not read its query refuses
/// nothing in it.
pub(super) fn refine(parameter: &mut Parameter, reads_query: bool) {
    match parameter.parameter_in {
        ParameterIn::Query => {
            may_be_empty(parameter);
            if let Some(text) = text_of(parameter)
                && text.pattern.is_none()
                && text.format.is_none()
                && text.enum_values.is_none()
                && reads_query
            {
                text.pattern = Some(STORABLE.to_owned());
            }
        }
        ParameterIn::Header => {
            if let Some(text) = text_of(parameter) {
                // A header that is there has a text.
                text.schema_type = SchemaType::Type(Type::String);
            }
        }
        ParameterIn::Path | ParameterIn::Cookie | ParameterIn::QueryString => {}
    }
}

/// In the query an empty parameter is as good as none.
fn may_be_empty(parameter: &mut Parameter) {
    let said = Extensions::from_iter([("allowEmptyValue", true)]);
    parameter.extensions.get_or_insert_default().merge(said);
}

/// The schema of a parameter that is text.
fn text_of(parameter: &mut Parameter) -> Option<&mut Object> {
    match &mut parameter.schema {
        Some(RefOr::T(Schema::Object(object))) if is_text(&object.schema_type) => Some(object),
        _ => None,
    }
}

fn is_text(kind: &SchemaType) -> bool {
    match kind {
        SchemaType::Type(kind) => *kind == Type::String,
        SchemaType::Array(kinds) => kinds.contains(&Type::String),
        SchemaType::AnyValue => false,
    }
}

/// A header that says nothing that could be wrong.
pub(super) fn header(name: &str, description: &str) -> RefOr<Parameter> {
    made(name, ParameterIn::Header, description, ObjectBuilder::new().schema_type(Type::String))
}

/// The header that names the tenant.
pub(super) fn tenant_in_head() -> RefOr<Parameter> {
    let schema = ObjectBuilder::new().schema_type(Type::String).max_length(Some(200)).pattern(Some(VISIBLE));
    let description = "The tenant, at most 200 characters; wins over the query parameter `tenant`";
    made("X-Tenant-Id", ParameterIn::Header, description, schema)
}

/// The parameter that names it where no header can be sent.
pub(super) fn tenant_in_query() -> RefOr<Parameter> {
    let schema = ObjectBuilder::new().schema_type(Type::String).max_length(Some(200)).pattern(Some(TENANT));
    let mut parameter = made("tenant", ParameterIn::Query, "The tenant, where no header can be sent", schema);
    if let RefOr::T(parameter) = &mut parameter {
        may_be_empty(parameter);
    }
    parameter
}

fn made(name: &str, place: ParameterIn, description: &str, schema: ObjectBuilder) -> RefOr<Parameter> {
    let parameter =
        ParameterBuilder::new().name(name).parameter_in(place).description(Some(description)).schema(Some(schema));
    RefOr::T(parameter.build())
}
