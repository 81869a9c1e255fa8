"""Does a document fit its JSON Schema?"""

from jsonschema import Draft202012Validator


def fits(data, schema):
    """What is wrong with the data, one sentence each; nothing where it fits."""
    Draft202012Validator.check_schema(schema)
    return [error.message for error in Draft202012Validator(schema).iter_errors(data)]
