"""Networks of other libraries as backbones, each library imported when it is named."""
