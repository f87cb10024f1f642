SwaggerUIBundle({
  url: "openapi.json",
  dom_id: "#swagger-ui",
  validatorUrl: null,  // nothing goes elsewhere
  tryItOutEnabled: true,
  deepLinking: true,
  displayRequestDuration: true,
  requestInterceptor: (request) => {
    request.headers["X-Requested-With"] = "fetch"  // or the browser itself asks for a password
    return request
  },
})
