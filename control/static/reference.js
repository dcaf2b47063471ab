// Shows the document that is served beside the page. Addresses are relative, since the API has two base paths.
"use strict";

window.addEventListener("DOMContentLoaded", () => {
  SwaggerUIBundle({
    dom_id: "#reference",
    url: "openapi.json",
    deepLinking: true,
    filter: true,
    // Nothing is sent to another host: the document is checked by tests.
    validatorUrl: null,
    // A token that was typed here ends with the page.
    persistAuthorization: false,
    presets: [SwaggerUIBundle.presets.apis],
  });
});
