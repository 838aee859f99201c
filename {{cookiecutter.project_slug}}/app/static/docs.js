// Shows the OpenAPI description in Swagger UI; a file, because the page allows no script inside it.
const element = document.getElementById("swagger-ui");
SwaggerUIBundle({ domNode: element, url: element.dataset.openapi, deepLinking: true });
